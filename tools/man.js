/*
 * npm run man [-- --out DIR]: the manual pages, for `man -M dist/man NAME`, each in the directory of its section. The
 * pages are written by hand, in mdoc(7), in man/.
 */
'use strict';
const { copyFileSync, mkdirSync, readdirSync } = require('node:fs');
const { join } = require('node:path');
const { parseArgs } = require('node:util');

const PAGES = join(__dirname, 'man');

/** The directory that is named, or the usual one. */
function outOf(args) {
  try {
    const { out } = parseArgs({ args, options: { out: { type: 'string' } } }).values;
    return join(out ?? join(__dirname, '..', 'dist'), 'man');
  } catch ({ message }) {
    process.stderr.write(`man: ${message}\nusage: npm run man [-- --out DIR]\n`);
    process.exit(2);
  }
}

const out = outOf(process.argv.slice(2));

try {
  for (const page of readdirSync(PAGES)) {
    const directory = join(out, `man${page.slice(-1)}`);
    mkdirSync(directory, { recursive: true });
    copyFileSync(join(PAGES, page), join(directory, page));
  }
  console.log(`man -M ${out} mdatactl`);
} catch ({ code, syscall, path, message }) {
  const [, what = message] = /^E\w+: ([^,]*)/.exec(message) ?? [];
  const remedy = `name a directory that can be written; see what is there: ls -ld ${out}`;
  process.stderr.write(`man: ${syscall} ${path}: ${what} (${code})\n  ${remedy}\n`);
  process.exitCode = 1;
}
