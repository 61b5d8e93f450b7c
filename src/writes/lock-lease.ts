/*
 * The locks that are held on after a write, until vminfod shows it.
 *
 *            begin            pause                   confirmed, or 2 s
 *   (none) ---------> busy <---------> awaiting vminfod --------------> released
 *                        resume
 *
 * While a hold is busy its VM is being written. A hold that is resumed again and again is given up after
 * 10 s, so that the platform's VM tool gets its turn on a VM whose guest never stops writing.
 */
import { repeatsOf, type RepeatCounter } from '../log';
import type { Edits } from './plan';
import type { MetadataMap, MetadataMaps } from '../metadata/handler';
import type { Target } from './backend';

export interface HeldLock {
  release(): void;
}

const CONFIRM_MS = 2000;
const LONGEST_HOLD_MS = 10_000;

interface Hold {
  readonly target: Target;
  readonly lock: HeldLock;
  /** On a clock that is never set, ms. */
  readonly since: number;
  customer: Map<string, string | undefined>;
  internal: Map<string, string | undefined>;
  confirmed: boolean;
  /** Null while busy. */
  timer: NodeJS.Timeout | null;
}

/** The holds of all VMs: at most one each. `stop` waits for the last of them. */
export class LockLeases {
  private readonly holds = new Map<string, Hold>();
  /** VMs whose hold was given up while its guest was still writing. */
  private readonly early = new Set<string>();
  /** By the VM's log, which goes with the VM: a frozen vminfod leaves every write unconfirmed. */
  private readonly told = new WeakMap<Target['log'], RepeatCounter>();
  private readonly confirmMs: number;
  private readonly longestMs: number;
  private waitingForNone: (() => void)[] = [];
  private unconfirmedCount = 0;

  private readonly beforeRelease: (target: Target) => void;

  /**
   * @param longestMs after which a hold that is resumed all the time is given up
   * @param beforeRelease called while the lock is still ours
   */
  constructor(
    confirmMs = CONFIRM_MS,
    longestMs = LONGEST_HOLD_MS,
    beforeRelease: (target: Target) => void = () => undefined,
  ) {
    this.beforeRelease = beforeRelease;
    this.confirmMs = confirmMs;
    this.longestMs = longestMs;
  }

  get size(): number {
    return this.holds.size;
  }

  /** How many holds ended without vminfod having shown the change. */
  get unconfirmed(): number {
    return this.unconfirmedCount;
  }

  /** True while the VM's lock is ours: nobody who takes it can have changed the file. */
  isHeld(zonename: string): boolean {
    return this.holds.has(zonename);
  }

  /** True where the VM's lock is still held: the next write goes under it. */
  resume(zonename: string): boolean {
    const hold = this.holds.get(zonename);
    if (hold === undefined) {
      return false;
    }
    clearTimeout(hold.timer ?? undefined);
    hold.timer = null;
    return true;
  }

  /** Once true after a hold that was given up for the sake of others. */
  releasedEarly(zonename: string): boolean {
    return this.early.delete(zonename);
  }

  begin(target: Target, lock: HeldLock): void {
    this.holds.set(target.zonename, {
      target,
      lock,
      since: performance.now(),
      customer: new Map(),
      internal: new Map(),
      confirmed: true,
      timer: null,
    });
  }

  /** Notes what vminfod has to show, before it can. Returns how to take that back. */
  expect(
    zonename: string,
    plan: { readonly customer: Edits; readonly internal: Edits },
  ): () => void {
    const hold = this.holds.get(zonename);
    if (hold === undefined) {
      return () => undefined;
    }
    const { customer, internal, confirmed } = hold;
    hold.customer = new Map([...customer, ...plan.customer]);
    hold.internal = new Map([...internal, ...plan.internal]);
    hold.confirmed = false;
    return () => Object.assign(hold, { customer, internal, confirmed });
  }

  /** The write is over, well or not. */
  pause(zonename: string): void {
    const hold = this.holds.get(zonename);
    if (hold === undefined) {
      return;
    }
    if (hold.confirmed) {
      this.release(hold);
    } else if (performance.now() - hold.since >= this.longestMs) {
      this.early.add(zonename);
      this.giveUp(hold);
    } else {
      hold.timer = setTimeout(() => this.giveUp(hold), this.confirmMs);
    }
  }

  observe(zonename: string, { customer, internal }: MetadataMaps): void {
    const hold = this.holds.get(zonename);
    if (hold === undefined || hold.confirmed) {
      return;
    }
    hold.confirmed = shows(customer, hold.customer) && shows(internal, hold.internal);
    if (hold.confirmed && hold.timer !== null) {
      this.release(hold);
    }
  }

  /** Resolves when no lock is held, which takes no longer than a confirmation may. */
  async stop(): Promise<void> {
    if (this.holds.size > 0) {
      await new Promise<void>((resolve) => this.waitingForNone.push(resolve));
    }
  }

  private giveUp(hold: Hold): void {
    const { log } = hold.target;
    this.unconfirmedCount++;
    const repeated = repeatsOf(this.told, log).next();
    if (repeated !== null) {
      const heldMs = Math.round(performance.now() - hold.since);
      log.warn(
        { held_ms: heldMs, unconfirmed: this.unconfirmedCount, repeated },
        'vminfod did not confirm a metadata update',
      );
    }
    this.release(hold);
  }

  private release(hold: Hold): void {
    clearTimeout(hold.timer ?? undefined);
    this.holds.delete(hold.target.zonename);
    this.beforeRelease(hold.target);
    hold.lock.release();
    if (this.holds.size === 0) {
      this.waitingForNone.splice(0).forEach((resolve) => resolve());
    }
  }
}

function shows(map: MetadataMap, expected: Edits): boolean {
  for (const [key, value] of expected) {
    if (value === undefined ? map.has(key) : map.get(key) !== value) {
      return false;
    }
  }
  return true;
}
