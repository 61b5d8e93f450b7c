/*
 * Which processes have a file open: who may hold the lock on it. Read from /proc, which looks alike on
 * illumos and Linux for what is needed here: a directory a process, with a directory `fd` of its open files.
 *
 * A lock cannot be asked for its holder without opening its file, and closing that would drop a lock
 * of our own (POSIX). Only called when somebody is in the way: it looks at every process.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

/** More holders than this are no news. */
const MOST_OPENERS = 5;

export interface Opener {
  readonly pid: number;
  /** The program's name and its script's, without arguments: those may hold secrets. */
  readonly command: string;
}

/** Other processes that have the file open. Never rejects; what cannot be seen is left out. */
export async function openersOf(path: string): Promise<Opener[]> {
  const openers: Opener[] = [];
  const file = await stat(path).catch(() => null);
  if (file === null) {
    return openers;
  }
  for (const name of await namesIn('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) {
      continue;
    }
    for (const fd of await namesIn(join('/proc', name, 'fd'))) {
      // A process or a descriptor that is gone by now holds nothing.
      const open = await stat(join('/proc', name, 'fd', fd)).catch(() => null);
      if (open?.dev === file.dev && open.ino === file.ino) {
        openers.push({ pid, command: await commandOf(name) });
        break;
      }
    }
    if (openers.length >= MOST_OPENERS) {
      break;
    }
  }
  return openers;
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

async function commandOf(pid: string): Promise<string> {
  const text = await readFile(join('/proc', pid, 'cmdline'), 'utf8').catch(() => '');
  const [program = '', script = ''] = text.split('\0');
  const name = program === '' ? 'unknown' : basename(program);
  return /^\/.*\.js$/.test(script) ? `${name} ${basename(script)}` : name;
}
