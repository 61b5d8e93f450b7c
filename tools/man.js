/*
 * npm run man: the manual pages, for `man -M dist/man NAME`, each in the directory of its section. The pages are
 * written by hand, in mdoc(7), in man/.
 */
'use strict';
const { copyFileSync, mkdirSync, readdirSync } = require('node:fs');
const { join } = require('node:path');

const PAGES = join(__dirname, 'man');
const out = join(process.argv[2] ?? join(__dirname, '..', 'dist'), 'man');

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
