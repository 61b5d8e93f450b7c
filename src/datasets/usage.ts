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

/** The arguments that make the output this file reads. */
export const ZFS_LIST_ARGS: readonly string[] = [
  'list',
  '-H',
  '-p',
  '-t',
  'filesystem,volume,snapshot',
  '-o',
  'name,type',
];

interface Sum {
  snapshots: number;
  filesystems: number;
}

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
    const { stdout } = await run([zfs, ...ZFS_LIST_ARGS], { timeoutMs: ZFS_MS });
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
  const sums = new Map<string, Sum>();
  const lines = text.split('\n');
  for (const [index, line] of lines.entries()) {
    if (line === '') {
      continue;
    }
    const [name, type, ...others] = line.split('\t');
    if (name === undefined || name === '' || type === undefined || others.length > 0) {
      return { kind: 'garbled', line: index + 1 };
    }
    switch (type) {
      case 'snapshot': {
        const at = name.indexOf('@');
        if (at < 1) {
          return { kind: 'garbled', line: index + 1 };
        }
        const dataset = name.slice(0, at);
        sumOf(sums, dataset).snapshots++;
        for (const above of ancestors(dataset)) {
          sumOf(sums, above).snapshots++;
        }
        break;
      }
      case 'filesystem':
      case 'volume':
        sumOf(sums, name);
        for (const above of ancestors(name)) {
          sumOf(sums, above).filesystems++;
        }
        break;
      default:
        break;
    }
  }
  return { kind: 'listed', usage: sums };
}

function sumOf(sums: Map<string, Sum>, dataset: string): Sum {
  let sum = sums.get(dataset);
  if (sum === undefined) {
    sum = { snapshots: 0, filesystems: 0 };
    sums.set(dataset, sum);
  }
  return sum;
}

/** `a/b/c` is below `a/b` and `a`. */
function ancestors(dataset: string): readonly string[] {
  const above: string[] = [];
  for (let at = dataset.lastIndexOf('/'); at > 0; at = dataset.lastIndexOf('/', at - 1)) {
    above.push(dataset.slice(0, at));
  }
  return above;
}
