/*
 * Keeps what our programs say during the tests (stdout, stderr, logs, replies to operators) in a folder,
 * a file for each process, so that all of it can be searched in the end (hooks.ts). Without the folder,
 * as in a run of one file by hand, nothing is kept.
 */
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { traces } from './canaries';

/** Names the folder. */
export const SAID_FOLDER = 'MDATAD_TEST_SAID';

/** Keeps what a program said, after what it said before. */
export function keepSaid(program: string, text: string | Buffer): void {
  const folder = process.env[SAID_FOLDER];
  if (folder !== undefined) {
    appendFileSync(join(folder, `${program}.txt`), text);
  }
}

/** Keeps all that comes from a stream, which others read too. */
export function keepStream(program: string, stream: Readable | null): void {
  stream?.on('data', (chunk: Buffer) => keepSaid(program, chunk));
}

/** The files that show a planted value, and in which line; never the value. */
export function leaksIn(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const octets = readFileSync(join(folder, name));
    const [first] = traces(octets);
    if (first === undefined) {
      return [];
    }
    const before = octets.subarray(0, octets.indexOf(first)).toString('latin1');
    return [`${join(folder, name)}, line ${before.split('\n').length}`];
  });
}
