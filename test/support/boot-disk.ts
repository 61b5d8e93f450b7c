/*
 * A disk that boots, raw or qcow2, made here: its boot sector is boot-disk.S. For tests of simcn's guests.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCE = join(__dirname, '..', '..', '..', 'test', 'support', 'boot-disk.S');
const DISK_BYTES = 1024 * 1024;
const CLUSTER_BITS = 16;
const CLUSTER = 1 << CLUSTER_BITS;

/** @param path where the disk is to be; @throws Error where no compiler can be run */
export function makeBootDisk(path: string, format: 'raw' | 'qcow2'): void {
  const sector = `${path}.sector`;
  execFileSync('cc', [
    ...['-nostdlib', '-static', '-no-pie', '-Wl,-Ttext=0x7c00,--oformat=binary,--build-id=none'],
    ...['-o', sector, SOURCE],
  ]);
  const content = readFileSync(sector);
  rmSync(sector);
  writeFileSync(path, format === 'raw' ? padded(content, DISK_BYTES) : qcow2(content));
}

/** The format's version 2: a header, one table of each kind, and one cluster of data. */
function qcow2(content: Buffer): Buffer {
  const header = Buffer.alloc(72);
  header.write('QFI\xfb', 'latin1');
  header.writeUInt32BE(2, 4);
  header.writeUInt32BE(CLUSTER_BITS, 20);
  header.writeBigUInt64BE(BigInt(DISK_BYTES), 24);
  header.writeUInt32BE(1, 36);
  header.writeBigUInt64BE(BigInt(3 * CLUSTER), 40);
  header.writeBigUInt64BE(BigInt(CLUSTER), 48);
  header.writeUInt32BE(1, 56);
  const pointer = (cluster: number, flags: bigint): Buffer => {
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64BE(BigInt(cluster * CLUSTER) | flags);
    return entry;
  };
  /** This entry's cluster has no other reference. */
  const COPIED = 1n << 63n;
  const refcounts = Buffer.alloc(12);
  for (let cluster = 0; cluster < 6; cluster++) {
    refcounts.writeUInt16BE(1, 2 * cluster);
  }
  const clusters = [header, pointer(2, 0n), refcounts, pointer(4, COPIED), pointer(5, COPIED)];
  return Buffer.concat([...clusters, content].map((cluster) => padded(cluster, CLUSTER)));
}

function padded(content: Buffer, bytes: number): Buffer {
  return Buffer.concat([content, Buffer.alloc(bytes - content.length)]);
}
