/* A directory of a test's own, short enough for unix sockets in it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDir {
  readonly path: string;
  readonly remove: () => void;
}

export function tempDir(): TempDir {
  const path = mkdtempSync(join(tmpdir(), 'mdatad-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
