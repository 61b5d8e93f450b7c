/*
 * The inputs that are kept from run to run: one file a target, one input a line, as text that a person
 * can read and a diff can show (bytes that are not printable ASCII as `\xHH`).
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { codeOf } from '../../src/lib/errors';

/** In the checkout, seen from dist/tools/fuzz. */
export const CORPUS = join(__dirname, '..', '..', '..', 'test', 'corpus');

/** Bytes as printable text on one line. */
export function escape(input: Buffer): string {
  return input.toString('latin1').replace(/[^ -[\]-~]/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

/** The bytes that `escape` made the text of. */
export function unescape(line: string): Buffer {
  const text = line.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => {
    return String.fromCharCode(parseInt(hex, 16));
  });
  return Buffer.from(text, 'latin1');
}

/** The inputs of a target; none where it has no file. */
export function readCorpus(target: string, directory = CORPUS): Buffer[] {
  try {
    const text = readFileSync(join(directory, `${target}.txt`), 'latin1');
    return text.split('\n').slice(0, -1).map(unescape);
  } catch (err) {
    if (codeOf(err) !== 'ENOENT') {
      throw err;
    }
    return [];
  }
}

/** Writes them shortest first, so that the same inputs give the same file. */
export function writeCorpus(target: string, inputs: readonly Buffer[], directory = CORPUS): void {
  const path = join(directory, `${target}.txt`);
  mkdirSync(dirname(path), { recursive: true });
  const sorted = [...inputs].sort((a, b) => a.length - b.length || a.compare(b));
  writeFileSync(path, sorted.map((input) => `${escape(input)}\n`).join(''));
}
