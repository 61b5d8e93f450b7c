/*
 * Writes a tar archive (POSIX ustar) that is the same, byte for byte, for the same entries.
 *
 * Used by `npm run package`. Entries are written in the order of their names, owned by root, with one fixed time;
 * nothing of the machine that packs gets in. Holds the archive in memory: tens of MB.
 */
import assert from 'node:assert';
import { Header } from 'tar';

export type TarEntry =
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly data: Buffer }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

const BLOCK_BYTES = 512;
/** An archive ends in two empty blocks and is padded to this, as tar(1) does. */
const RECORD_BYTES = 10240;
/** 2020-01-01: some unpackers warn of times long ago. */
const MTIME = new Date(1577836800000);
const ROOT = { uid: 0, gid: 0, uname: 'root', gname: 'root', mtime: MTIME };

/** Directories are implied by their files, made before them, mode 755. Throws on a name ustar cannot hold. */
export function tarOf(entries: readonly TarEntry[]): Buffer {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  const directories = new Set<string>();
  const parts: Buffer[] = [];
  for (const entry of sorted) {
    const names = entry.path.split('/').slice(0, -1);
    for (const directory of names.map((_name, i) => `${names.slice(0, i + 1).join('/')}/`)) {
      if (!directories.has(directory)) {
        directories.add(directory);
        parts.push(header({ path: directory, mode: 0o755, size: 0, type: 'Directory' }));
      }
    }
    const { path } = entry;
    if (entry.kind === 'link') {
      const link = { type: 'SymbolicLink', linkpath: entry.target } as const;
      parts.push(header({ path, mode: 0o777, size: 0, ...link }));
    } else {
      const { mode, data } = entry;
      parts.push(header({ path, mode, size: data.length, type: 'File' }), data);
      parts.push(Buffer.alloc(paddingOf(data.length, BLOCK_BYTES)));
    }
  }
  const length = parts.reduce((sum, part) => sum + part.length, 2 * BLOCK_BYTES);
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES + paddingOf(length, RECORD_BYTES))]);
}

interface Fields {
  readonly path: string;
  readonly mode: number;
  readonly size: number;
  readonly type: 'File' | 'Directory' | 'SymbolicLink';
  readonly linkpath?: string;
}

function header(fields: Fields): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const needsExtension = new Header({ ...ROOT, ...fields }).encode(block, 0);
  assert(!needsExtension, `${fields.path}: too long for a tar`);
  return block;
}

function paddingOf(bytes: number, unit: number): number {
  return (unit - (bytes % unit)) % unit;
}
