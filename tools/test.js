/*
 * Runs mocha over the built tests; arguments go to mocha. As root the whole run gets a mount namespace
 * of its own, so that real lofs-like mounts are tested and nothing of them is left on the machine. Under
 * CI the lines that the run reached are counted, and less than .c8rc.json wants is a failure; so is a
 * floor there that sank or fell behind (coverage-floor.js).
 */
'use strict';
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');

const modules = join(__dirname, '..', 'node_modules');
const given = process.argv.slice(2);
const mocha = [process.execPath, join(modules, 'mocha', 'bin', 'mocha.js'), ...given];
const counted = process.env.CI !== undefined && given.length === 0;
const run = counted ? [process.execPath, join(modules, 'c8', 'bin', 'c8.js'), ...mocha] : mocha;
const isolated = process.getuid() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;
const command = isolated ? ['unshare', '-m', '--propagation', 'private', ...run] : run;

/** @returns the exit status of a command, 1 when a signal ended it */
function carryOut([file, ...args]) {
  const { status, signal } = spawnSync(file, args, { stdio: 'inherit' });
  return signal === null ? status : 1;
}

const status = carryOut(command);
const floorHolds = [process.execPath, join(__dirname, 'coverage-floor.js')];
process.exit(status === 0 && counted ? carryOut(floorHolds) : status);
