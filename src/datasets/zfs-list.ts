/*
 * Asks the platform's zfs for the use of all datasets of the node, in one run for all VMs.
 *
 * A node without zfs (any that is not SmartOS) is no fault: use is then not known, and is not judged.
 */
import { existsSync } from 'node:fs';
import { messageOf } from '../lib/errors';
import { run } from '../platform/exec';
import { parseZfsList, ZFS_LIST_ARGS, type Usage } from './usage';

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
