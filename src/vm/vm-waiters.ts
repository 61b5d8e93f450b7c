/*
 * Requests that wait for a VM object to come in.
 *
 * A zone can be known before vminfod tells its VM: at the start, and while vminfod is down. A guest that
 * asks meanwhile is answered when the object comes, and told of failure when it does not come in time.
 * All waits are equally long, so the oldest ends first and one timer does for all; none runs while
 * nobody waits.
 */
import type { JsonObject } from '../metadata/vm-data';

interface Waiter {
  readonly zonename: string;
  /** On the clock that is never set. */
  readonly deadline: number;
  readonly resolve: (vm: JsonObject | undefined) => void;
}

/** Who waits for which zone's VM. Each wait ends once: with the object, in vain, or with the store. */
export class VmWaiters {
  private readonly waitMs: number;
  private readonly waiters = new Set<Waiter>();
  private timer: NodeJS.Timeout | null = null;

  /** @param waitMs longest wait */
  constructor(waitMs: number) {
    this.waitMs = waitMs;
  }

  get waiting(): number {
    return this.waiters.size;
  }

  /** Resolves with the VM's object, or with undefined when it did not come. */
  wait(zonename: string): Promise<JsonObject | undefined> {
    return new Promise((resolve) => {
      this.waiters.add({ zonename, deadline: performance.now() + this.waitMs, resolve });
      this.timer ??= setTimeout(() => this.expire(), this.waitMs);
    });
  }

  arrived(zonename: string, vm: JsonObject): void {
    this.settle((waiter) => waiter.zonename === zonename, vm);
  }

  /** Nobody waits any longer. */
  stop(): void {
    this.settle(() => true, undefined);
  }

  private settle(which: (waiter: Waiter) => boolean, vm: JsonObject | undefined): void {
    for (const waiter of this.waiters) {
      if (which(waiter)) {
        this.waiters.delete(waiter);
        waiter.resolve(vm);
      }
    }
    if (this.waiters.size === 0) {
      clearTimeout(this.timer ?? undefined);
      this.timer = null;
    }
  }

  private expire(): void {
    this.timer = null;
    const now = performance.now();
    // A timer may fire a little before the clock says so.
    this.settle((waiter) => waiter.deadline <= now + 1, undefined);
    for (const oldest of this.waiters) {
      this.timer = setTimeout(() => this.expire(), oldest.deadline - now);
      break;
    }
  }
}
