/*
 * Runs mocha over the built tests; arguments go to mocha. As root the whole run gets a mount namespace
 * of its own, so that real lofs-like mounts are tested and nothing of them is left on the machine.
 */
'use strict';
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');

const mocha = [join(__dirname, '..', 'node_modules', 'mocha', 'bin', 'mocha.js')];
const args = [process.execPath, ...mocha, ...process.argv.slice(2)];
const isolated = process.getuid() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;
const command = isolated ? ['unshare', '-m', '--propagation', 'private', ...args] : args;

const { status, signal } = spawnSync(command[0], command.slice(1), { stdio: 'inherit' });
process.exit(signal === null ? status : 1);
