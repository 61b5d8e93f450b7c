#!/usr/bin/env node
/*
 * man --out DIR: writes the manual pages to DIR/man1 and DIR/man8, and the bash completion to
 * DIR/mdatad.bash, all from the descriptions in pages/.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { explain } from '../../src/lib/explain';
import { COMMANDS, fileNameOf } from './commands';
import { completionScript } from './completion';
import { manPage } from './roff';

function main(): void {
  const { out, top } = new Command('man')
    .requiredOption('--out <dir>', 'where the pages go')
    .option('--top <dir>', 'the checkout', resolve(__dirname, '..', '..', '..'))
    .parse()
    .opts<{ out: string; top: string }>();
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')));
  for (const command of COMMANDS) {
    const directory = join(out, `man${command.section}`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, fileNameOf(command)), manPage(command, version));
  }
  writeFileSync(join(out, 'mdatad.bash'), completionScript(COMMANDS));
}

try {
  main();
} catch (err) {
  process.stderr.write(explain('man', err));
  process.exitCode = 1;
}
