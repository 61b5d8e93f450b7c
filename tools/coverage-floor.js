/*
 * The floor of coverage (`lines` of .c8rc.json, which c8 enforces) only ever rises: it is a failure when an
 * ancestor in git had a higher one, and when the run reached so much more that the floor is out of date.
 *
 *   node coverage-floor.js [FOLDER]    the checkout, after a run of c8 in it
 */
'use strict';
const { spawnSync } = require('node:child_process');
const { readFileSync } = require('node:fs');
const { join, resolve } = require('node:path');

const FILE = '.c8rc.json';
/** Percent. Less than this comes and goes with the code that only a fault or a slow machine reaches. */
const SLACK = 1;

const directory = resolve(process.argv[2] ?? join(__dirname, '..'));

/** The lines that git prints, none where there is no git or no history: a package, a shallow clone. */
function git(...args) {
  const { status, stdout } = spawnSync('git', ['-C', directory, ...args], { encoding: 'utf8' });
  return status === 0 ? stdout : '';
}

/** @returns the highest floor that a commit had */
function highestFloor() {
  const commits = git('log', '--format=%H', '--', FILE).split('\n').filter(Boolean);
  const floors = commits.map((commit) => {
    const text = git('show', `${commit}:./${FILE}`);
    return text === '' ? 0 : (JSON.parse(text).lines ?? 0);
  });
  return Math.max(0, ...floors);
}

function parse(...names) {
  return JSON.parse(readFileSync(join(directory, ...names), 'utf8'));
}

const floor = parse(FILE).lines;
const reached = parse('coverage', 'coverage-summary.json').total.lines.pct;
const highest = highestFloor();
if (floor < highest) {
  console.error(`${FILE}: "lines" is ${floor} and was ${highest} before: it only ever rises`);
  process.exitCode = 1;
} else if (reached >= floor + SLACK) {
  const next = Math.floor(2 * reached - SLACK) / 2;
  console.error(
    `${FILE}: ${reached} % of lines are reached: raise "lines" from ${floor} to ${next}`,
  );
  process.exitCode = 1;
}
