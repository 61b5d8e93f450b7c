/*
 * Keeps what our programs say during the tests (stdout, stderr, logs, replies to operators) in a directory,
 * a file for each process, so that all of it can be searched in the end (hooks.ts). Without the directory,
 * as in a run of one file by hand, nothing is kept.
 */
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { traces } from './canaries';

/** Names the directory. */
export const SAID_DIRECTORY = 'MDATAD_TEST_SAID';

/** Keeps what a program said, after what it said before. */
export function keepSaid(program: string, text: string | Buffer): void {
  const directory = process.env[SAID_DIRECTORY];
  if (directory !== undefined) {
    appendFileSync(join(directory, `${program}.txt`), text);
  }
}

/** Keeps all that comes from a stream, which others read too. */
export function keepStream(program: string, stream: Readable | null): void {
  stream?.on('data', (chunk: Buffer) => keepSaid(program, chunk));
}

/** The files that show a planted value, and in which line; never the value. */
export function leaksIn(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const bytes = readFileSync(join(directory, name));
    const [first] = traces(bytes);
    if (first === undefined) {
      return [];
    }
    const before = bytes.subarray(0, bytes.indexOf(first)).toString('latin1');
    return [`${join(directory, name)}, line ${before.split('\n').length}`];
  });
}
