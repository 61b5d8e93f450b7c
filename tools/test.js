/*
 * Runs mocha over the built tests; arguments go to mocha. As root the whole run gets a mount namespace
 * of its own, so that real lofs-like mounts are tested and nothing of them is left on the machine. Under
 * CI the lines that the run reached are counted, and less than .c8rc.json wants is a failure.
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

const { status, signal } = spawnSync(command[0], command.slice(1), { stdio: 'inherit' });
process.exit(signal === null ? status : 1);
