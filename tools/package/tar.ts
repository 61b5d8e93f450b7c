/*
 * Writes a tar archive (POSIX ustar) that is the same, byte for byte, for the same entries.
 *
 * Used by `npm run package`. Entries are written in the order of their names, owned by root, with one
 * fixed time; nothing of the machine that packs gets in. Holds the archive in memory: tens of MB.
 */
import assert from 'node:assert';

export type TarEntry =
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly data: Buffer }
  | { readonly kind: 'link'; readonly path: string; readonly target: string };

const BLOCK_BYTES = 512;
/** An archive ends in two empty blocks and is padded to this, as tar(1) does. */
const RECORD_BYTES = 10240;
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
/** 2020-01-01: some unpackers warn of times long ago. */
const MTIME_SECONDS = 1577836800;

/** Directories are implied by their files, made before them, mode 755. Throws on a name ustar cannot hold. */
export function tarOf(entries: readonly TarEntry[]): Buffer {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  const directories = new Set<string>();
  const parts: Buffer[] = [];
  for (const entry of sorted) {
    for (const directory of directoriesOf(entry.path)) {
      if (!directories.has(directory)) {
        directories.add(directory);
        parts.push(header({ path: `${directory}/`, mode: 0o755, size: 0, type: '5', target: '' }));
      }
    }
    parts.push(...blocksOf(entry));
  }
  const length = parts.reduce((sum, part) => sum + part.length, 2 * BLOCK_BYTES);
  const end = 2 * BLOCK_BYTES + ((RECORD_BYTES - (length % RECORD_BYTES)) % RECORD_BYTES);
  return Buffer.concat([...parts, Buffer.alloc(end)]);
}

function blocksOf(entry: TarEntry): Buffer[] {
  switch (entry.kind) {
    case 'file': {
      const { path, mode, data } = entry;
      const padding = (BLOCK_BYTES - (data.length % BLOCK_BYTES)) % BLOCK_BYTES;
      const head = header({ path, mode, size: data.length, type: '0', target: '' });
      return [head, data, Buffer.alloc(padding)];
    }
    case 'link': {
      const { path, target } = entry;
      return [header({ path, mode: 0o777, size: 0, type: '2', target })];
    }
  }
}

interface Header {
  readonly path: string;
  readonly mode: number;
  readonly size: number;
  readonly type: '0' | '2' | '5';
  readonly target: string;
}

/*
 *  0 name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | sum 8 | type 1 | target 100 |
 *  257 "ustar\0" 6 | "00" 2 | owner 32 | group 32 | major 8 | minor 8 | prefix 155
 */
function header({ path, mode, size, type, target }: Header): Buffer {
  const [prefix, name] = splitName(path);
  assert(Buffer.byteLength(target) <= NAME_BYTES, `${target}: too long for a link of a tar`);
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(name, 0);
  block.write(octal(mode, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  block.write(octal(size, 12), 124);
  block.write(octal(MTIME_SECONDS, 12), 136);
  // The sum is taken with spaces where it goes.
  block.write('        ', 148);
  block.write(type, 156);
  block.write(target, 157);
  block.write('ustar\u000000', 257);
  block.write('root', 265);
  block.write('root', 297);
  block.write(octal(0, 8), 329);
  block.write(octal(0, 8), 337);
  block.write(prefix, 345);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\u0000 `, 148);
  return block;
}

/** A long name is cut at a slash into prefix and name. */
function splitName(path: string): readonly [prefix: string, name: string] {
  if (Buffer.byteLength(path) <= NAME_BYTES) {
    return ['', path];
  }
  for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    const fits = Buffer.byteLength(prefix) <= PREFIX_BYTES && Buffer.byteLength(name) <= NAME_BYTES;
    if (fits && name !== '') {
      return [prefix, name];
    }
  }
  throw new Error(`${path}: too long for a tar`);
}

function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\u0000`;
}

function directoriesOf(path: string): string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_part, i) => parts.slice(0, i + 1).join('/'));
}
