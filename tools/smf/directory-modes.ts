/*
 * directory-modes --save FILE DIR: notes the mode of each directory in DIR, one `MODE NAME` a line, unless FILE is
 * there already. directory-modes --restore FILE DIR: gives the directories that are still there those modes.
 *
 * DIR is /var/zonecontrol, where each zone's socket directory is. The platform's agent makes them 0700 and the
 * brand's pre-ready script 0755 (usr/src/lib/brand/jcommon/statechange in illumos-joyent), whichever comes first;
 * mdatad makes all of them 0700. Only root can write to DIR, so no name in it is a trap.
 */
import { chmodSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { codeOf, explain } from '../../src/lib/errors';

const PERMISSIONS = 0o7777;

function save(file: string, directory: string): void {
  const lines = directoriesIn(directory).map((name) => {
    const mode = lstatSync(join(directory, name)).mode & PERMISSIONS;
    return `${mode.toString(8).padStart(4, '0')} ${name}\n`;
  });
  try {
    writeFileSync(file, lines.join(''), { flag: 'wx', mode: 0o600 });
  } catch (err) {
    // What the platform gave them was noted before mdatad changed them.
    if (codeOf(err) !== 'EEXIST') {
      throw err;
    }
  }
}

function restore(file: string, directory: string): void {
  const there = new Set(directoriesIn(directory));
  for (const [, mode = '', name = ''] of readIfThere(file).matchAll(/^([0-7]+) ([^/\n]+)$/gm)) {
    if (there.has(name)) {
      chmodSync(join(directory, name), Number.parseInt(mode, 8));
    }
  }
}

function directoriesIn(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return []; // A node that never had a zone.
    }
    throw err;
  }
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return '';
    }
    throw err;
  }
}

try {
  const { values, positionals } = parseArgs({
    options: { save: { type: 'string' }, restore: { type: 'string' } },
    allowPositionals: true,
  });
  const [directory = ''] = positionals;
  if (values.save !== undefined) {
    save(values.save, directory);
  } else if (values.restore !== undefined) {
    restore(values.restore, directory);
  }
} catch (err) {
  process.stderr.write(explain('directory-modes', err));
  process.exitCode = 1;
}
