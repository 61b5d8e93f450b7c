/*
 * Makes a fresh clone ready: installs the packages and builds, each only where it is not done yet.
 * Plain JavaScript, as it must run before anything is installed or built.
 */
'use strict';
const { execFileSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const { existsSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');

const TOP = join(__dirname, '..');
const STAMP = join(TOP, 'node_modules', '.mdatad-installed');
const ADDON = join(TOP, 'native', 'build', 'Release', 'mdatad.node');

const lock = createHash('sha256')
  .update(readFileSync(join(TOP, 'package-lock.json')))
  .update(process.version)
  .digest('hex');

function npm(...args) {
  execFileSync('npm', args, { cwd: TOP, stdio: ['ignore', 'inherit', 'inherit'] });
}

if (!existsSync(STAMP) || readFileSync(STAMP, 'utf8') !== lock) {
  npm('ci', '--no-fund', '--no-audit');
  mkdirSync(join(TOP, 'node_modules'), { recursive: true });
  writeFileSync(STAMP, lock);
  npm('run', 'build:native');
} else if (!existsSync(ADDON)) {
  npm('run', 'build:native');
} else {
  npm('run', '--silent', 'build:native');
}
npm('run', '--silent', 'build:ts');
