/* Breaks a file of a zone's config directory, in place, as no tool of the platform would. */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from './step';
import { CANARY } from './zones';

type FileStep = Extract<Step, { kind: 'file' }>;

/** One MiB more than the agent reads of a file. */
const HUGE_BYTES = 17 * 1024 * 1024;

const CONTENT = {
  valid: `{"customer_metadata":{"motd":"${CANARY}"},"internal_metadata":{}}`,
  cut: `{"customer_metadata":{"motd":"${CANARY}`,
  odd: `{"customer_metadata":["${CANARY}"],"internal_metadata":null,"__proto__":{}}`,
  empty: '',
  list: `[{"${CANARY}":1}]`,
  deep: '['.repeat(100_000),
} as const;

/** Puts something else in the place of a zone's config file: broken, odd, valid, or nothing. */
export function corruptFile(directory: string, { file, content }: FileStep): void {
  const path = join(directory, file);
  try {
    rmSync(path, { recursive: true, force: true });
    switch (content) {
      case 'valid':
      case 'cut':
      case 'odd':
      case 'empty':
      case 'list':
      case 'deep':
        writeFileSync(path, CONTENT[content]);
        return;
      case 'huge':
        writeFileSync(path, Buffer.alloc(HUGE_BYTES, ' '));
        return;
      case 'directory':
        mkdirSync(path);
        return;
      case 'link':
        symlinkSync(path, path);
        return;
      case 'gone':
        return;
      default:
        throw new Error(`no such content: ${String(content satisfies never)}`);
    }
  } catch {
    // The zone is gone, or its disk is full just now.
  }
}
