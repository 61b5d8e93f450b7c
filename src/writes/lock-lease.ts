/*
 * The locks that are kept after a write, until vminfod shows it: a lease each.
 *
 *            begin            pause                   confirmed, or 2 s
 *   (none) ---------> busy <---------> awaiting vminfod --------------> released
 *                        resume
 *
 * While a lease is busy its VM is being written. One that is resumed again and again ends after 10 s, so that
 * the platform's VM tool gets the lock of a VM whose guest never stops writing.
 */
import { repeatsOf, type RepeatCounter } from '../log';
import { isSameValue, type MetadataMap, type MetadataMaps } from '../metadata/vm-data';
import type { HeldLock } from '../platform/lock';
import type { WriteTarget } from '../vm/store';
import type { Edits, MapEdits } from './plan';

const CONFIRM_MS = 2000;
const LONGEST_LEASE_MS = 10_000;

export interface Lease {
  readonly target: WriteTarget;
  readonly lock: HeldLock;
  /** On a monotonic clock, ms. */
  readonly since: number;
  /** What vminfod has to show. */
  expected: MapEdits;
  confirmed: boolean;
  /** What vminfod has shown since a write began: it can be sooner than the thread that made it. */
  shown: MetadataMaps | null;
  /** Null while busy. */
  timer: NodeJS.Timeout | null;
}

/** The leases of all VMs: at most one each. `stop` waits for the last of them. */
export class LockLeases {
  /** How many leases ended before vminfod showed the change. */
  unconfirmed = 0;
  private readonly leases = new Map<string, Lease>();
  /** By the VM's log, which goes with the VM: a frozen vminfod leaves every write unconfirmed. */
  private readonly repeats = new WeakMap<WriteTarget['log'], RepeatCounter>();
  private waitingForNone: (() => void)[] = [];

  /**
   * @param confirmMs longest wait for vminfod after a write
   * @param longestMs after which a lease that is resumed all the time ends
   * @param beforeRelease called while the lock is still ours, where something was written under it
   */
  constructor(
    private readonly confirmMs = CONFIRM_MS,
    private readonly longestMs = LONGEST_LEASE_MS,
    private readonly beforeRelease: (target: WriteTarget) => void,
  ) {}

  get size(): number {
    return this.leases.size;
  }

  /** True while the VM's lock is ours: nobody who takes it can have changed the file. */
  isHeld(zonename: string): boolean {
    return this.leases.has(zonename);
  }

  /** The lease of a VM whose lock is still held: the next write needs no other. */
  resume(zonename: string): Lease | undefined {
    const lease = this.leases.get(zonename);
    if (lease !== undefined) {
      clearTimeout(lease.timer ?? undefined);
      lease.timer = null;
    }
    return lease;
  }

  begin(target: WriteTarget, lock: HeldLock): Lease {
    const lease: Lease = {
      target,
      lock,
      since: performance.now(),
      expected: { customer: new Map(), internal: new Map() },
      confirmed: true,
      shown: null,
      timer: null,
    };
    this.leases.set(target.zonename, lease);
    return lease;
  }

  /** The write is over, well or not. True: the lease has ended for the sake of others. */
  pause(lease: Lease): boolean {
    lease.shown = null;
    const isLong = !lease.confirmed && performance.now() - lease.since >= this.longestMs;
    if (lease.confirmed) {
      this.release(lease);
    } else if (isLong) {
      this.expire(lease);
    } else {
      lease.timer = setTimeout(() => this.expire(lease), this.confirmMs);
    }
    return isLong;
  }

  /** What vminfod shows of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void {
    const lease = this.leases.get(zonename);
    if (lease === undefined || lease.confirmed) {
      return;
    }
    const { customer, internal } = lease.expected;
    lease.confirmed = shows(metadata.customer, customer) && shows(metadata.internal, internal);
    if (lease.timer === null) {
      lease.shown = metadata;
    } else if (lease.confirmed) {
      this.release(lease);
    }
  }

  /** Resolves when no lock is held, which takes no longer than a confirmation may. */
  async stop(): Promise<void> {
    if (this.leases.size > 0) {
      await new Promise<void>((resolve) => this.waitingForNone.push(resolve));
    }
  }

  private expire(lease: Lease): void {
    const { log } = lease.target;
    const unconfirmed = ++this.unconfirmed;
    const repeated = repeatsOf(this.repeats, log).next();
    if (repeated !== null) {
      const fields = {
        held_ms: Math.round(performance.now() - lease.since),
        unconfirmed,
        repeated,
      };
      log.warn(fields, 'vminfod did not confirm a metadata update');
    }
    this.release(lease);
  }

  private release(lease: Lease): void {
    clearTimeout(lease.timer ?? undefined);
    this.leases.delete(lease.target.zonename);
    if (hasWritten(lease)) {
      this.beforeRelease(lease.target);
    }
    lease.lock.release();
    if (this.leases.size === 0) {
      this.waitingForNone.splice(0).forEach((resolve) => resolve());
    }
  }
}

/** Notes what vminfod has to show, before it can. Returns how to take that back. */
export function expectShown(lease: Lease, { customer, internal }: MapEdits): () => void {
  const { expected, confirmed } = lease;
  lease.expected = {
    customer: new Map([...expected.customer, ...customer]),
    internal: new Map([...expected.internal, ...internal]),
  };
  lease.confirmed = false;
  lease.shown = null;
  return () => Object.assign(lease, { expected, confirmed });
}

/** True where something was written since the lock was taken. */
export function hasWritten({ expected }: Lease): boolean {
  return expected.customer.size + expected.internal.size > 0;
}

function shows(map: MetadataMap, expected: Edits): boolean {
  return [...expected].every(([key, value]) => {
    if (value === undefined) {
      return !map.has(key);
    }
    // Another length is known without making a string of a long value.
    const length = Buffer.byteLength(value);
    return (map.bytesOf?.(key) ?? length) === length && isSameValue(map.get(key), value);
  });
}
