/*
 * Counts the snapshots and filesystems of each dataset, from one `zfs list` of the whole node.
 *
 * The numbers mean what ZFS compares with its limits (illumos dsl_dir.c, dsl_fs_ss_limit_check):
 * snapshots of the dataset and of everything below it; filesystems and volumes below it, without the
 * dataset itself. One pass sums up every dataset, so an audit of a thousand VMs reads one listing.
 *
 * A node without zfs (any that is not SmartOS) is not a fault: usage is then unknown.
 */
import { existsSync } from 'node:fs';
import { messageOf } from '../lib/errors';
import { run } from '../platform/exec';

export interface Usage {
  readonly snapshots: number;
  /** Filesystems and volumes: ZFS has one limit for both. */
  readonly filesystems: number;
}

export type ZfsListing =
  | { readonly kind: 'listed'; readonly usage: ReadonlyMap<string, Usage> }
  /** No number can be trusted. `line` counts from 1. */
  | { readonly kind: 'garbled'; readonly line: number };

/** What makes the output that this file reads. */
const ZFS_LIST = 'list -H -p -t filesystem,volume,snapshot -o name,type'.split(' ');

/** A listing of some ten thousand snapshots takes seconds; one that takes longer hangs. */
const ZFS_MS = 10_000;

export type NodeUsage =
  | { readonly kind: 'known'; readonly usage: ReadonlyMap<string, Usage> }
  /** `fault`: there is a zfs, and it did not do its work. */
  | { readonly kind: 'unknown'; readonly why: string; readonly fault: boolean };

/** Never rejects. @param zfs its path on this machine */
export async function listUsage(zfs: string): Promise<NodeUsage> {
  if (!existsSync(zfs)) {
    return { kind: 'unknown', why: `${zfs} is not there`, fault: false };
  }
  try {
    const { stdout } = await run([zfs, ...ZFS_LIST], { timeoutMs: ZFS_MS });
    const listing = parseZfsList(stdout);
    return listing.kind === 'listed'
      ? { kind: 'known', usage: listing.usage }
      : { kind: 'unknown', why: `zfs list: line ${listing.line} is unreadable`, fault: true };
  } catch (err) {
    return { kind: 'unknown', why: messageOf(err), fault: true };
  }
}

/** Reads a whole listing. Types other than the three (bookmarks) are left out. */
export function parseZfsList(text: string): ZfsListing {
  const usage = new Map<string, { snapshots: number; filesystems: number }>();
  const sumOf = (dataset: string): { snapshots: number; filesystems: number } => {
    const sum = usage.get(dataset) ?? { snapshots: 0, filesystems: 0 };
    usage.set(dataset, sum);
    return sum;
  };
  for (const [index, line] of text.split('\n').entries()) {
    const [name = '', type, ...others] = line.split('\t');
    const isSnapshot = type === 'snapshot';
    const dataset = isSnapshot ? name.slice(0, Math.max(0, name.indexOf('@'))) : name;
    if (line === '') {
      continue;
    }
    if (dataset === '' || type === undefined || others.length > 0) {
      return { kind: 'garbled', line: index + 1 };
    }
    if (isSnapshot) {
      sumOf(dataset).snapshots++;
      ancestors(dataset).forEach((above) => sumOf(above).snapshots++);
    } else if (type === 'filesystem' || type === 'volume') {
      sumOf(dataset);
      ancestors(dataset).forEach((above) => sumOf(above).filesystems++);
    }
  }
  return { kind: 'listed', usage };
}

/** `a/b/c` is below `a/b` and `a`. */
function ancestors(dataset: string): readonly string[] {
  const above: string[] = [];
  for (let at = dataset.lastIndexOf('/'); at > 0; at = dataset.lastIndexOf('/', at - 1)) {
    above.push(dataset.slice(0, at));
  }
  return above;
}
