/*
 * Runs mocha over the built tests; arguments go to mocha. `--spec FILE` runs that file only, by the path of its
 * source or of what was built of it. As root the whole run gets a mount namespace of its own, so that real
 * lofs-like mounts are tested and nothing of them is left on the machine. Under CI the lines that the run
 * reached are counted, and less than .c8rc.json wants is a failure; so is a floor there that sank or fell behind
 * (coverage-floor.js).
 */
'use strict';
const { spawnSync } = require('node:child_process');
const { readFileSync } = require('node:fs');
const { isAbsolute, join, relative } = require('node:path');

const TOP = join(__dirname, '..');
const modules = join(TOP, 'node_modules');

/** What mocha gets: it would run the specs of .mocharc.json beside those that are given. */
function argumentsOf(given) {
  const [specs, others] = [[], []];
  for (let i = 0; i < given.length; i++) {
    const [option, value] = given[i].split(/=(.*)/s);
    if (option === '--spec') {
      specs.push(builtOf(value ?? given[++i] ?? ''));
    } else {
      others.push(given[i]);
    }
  }
  if (specs.length === 0) {
    return given;
  }
  const {
    spec: _spec,
    ignore: _ignore,
    ...options
  } = JSON.parse(readFileSync(join(TOP, '.mocharc.json'), 'utf8'));
  const kept = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  return ['--no-config', ...kept, ...others, ...specs];
}

/** test/a/b.test.ts is built as dist/test/a/b.test.js. */
function builtOf(spec) {
  const path = (isAbsolute(spec) ? relative(TOP, spec) : spec).replace(/^\.\//, '');
  return (path.startsWith('dist/') ? path : join('dist', path)).replace(/\.ts$/, '.js');
}

function main() {
  const given = process.argv.slice(2);
  const mocha = [
    process.execPath,
    join(modules, 'mocha', 'bin', 'mocha.js'),
    ...argumentsOf(given),
  ];
  const counted = process.env.CI !== undefined && given.length === 0;
  const run = counted ? [process.execPath, join(modules, 'c8', 'bin', 'c8.js'), ...mocha] : mocha;
  const isolated = process.getuid() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;
  const command = isolated ? ['unshare', '-m', '--propagation', 'private', ...run] : run;
  const status = execute(command);
  const floorHolds = [process.execPath, join(__dirname, 'coverage-floor.js')];
  process.exit(status === 0 && counted ? execute(floorHolds) : status);
}

/** @returns the exit status of a command, 1 when a signal ended it */
function execute([file, ...args]) {
  const { status, signal } = spawnSync(file, args, { stdio: 'inherit', cwd: TOP });
  return signal === null ? status : 1;
}

if (require.main === module) {
  main();
}
module.exports = { argumentsOf };
