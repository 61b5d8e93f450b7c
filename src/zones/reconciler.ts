/*
 * The safety net below the events: compares the zones that we have with what libzonecfg says.
 *
 *   list --difference, new--> suspect --there still, when late events have come--> repair
 *                                `----an event of the zone--> none
 *
 * In a healthy run it finds nothing. A difference counts only if two runs find it and no event of its zone comes in
 * between: then its event was missed. Made by the registry. Runs periodically, soon after a difference was found or a
 * zone could not be read (for want of a descriptor, say), at once where events were lost; one run at a time.
 */
import type { Logger } from '../log';
import { Backoff } from '../lib/backoff';
import { settlesWithin } from '../lib/bounded-wait';
import { TaskQueue } from '../lib/scheduler';
import type { Platform, ZoneFacts } from '../platform/libzonecfg';
import type { RawZoneEvent } from '../platform/zone-events';
import { listZones, phaseOf } from './events';
import type { Zone } from './zone';

/** An event on its way has arrived after this; a difference that is still there was missed. */
const LATE_EVENT_MS = 2000;
/** A busy node's events come late: twice the delay of the last one is waited for, at most so long. */
const LATEST_EVENT_MS = 60_000;
/** The next zone's mount is checked after this, whether this one's file system has answered or not. */
const CHECK_MS = 50;
/** After a listing that failed; the next time twice as long, and so on. */
const FIRST_RETRY_MS = 500;

export type Repair = 'missed creation' | 'missed deletion' | 'missed state' | 'changed identity';

export interface ReconcileOptions {
  readonly platform: Platform;
  readonly log: Logger;
  /** From the end of one run to the next, ms. */
  readonly reconcileMs: number;
}

/** Runs from `start` to `stop`, over the map of zones that it was given. */
export class Reconciler {
  private state: 'new' | 'waiting' | 'running' | 'stopped' = 'new';
  /** Of the next run, which may be asked for in any state. */
  private dueAt = Infinity;
  private timer: NodeJS.Timeout | undefined;
  /** A zone could not be read since the last run began. */
  private failed = false;
  private readonly backoff: Backoff;
  /** What differed in the last run, and since when, of zones without an event since then. */
  private readonly suspects = new Map<
    string,
    { readonly repair: Repair; readonly since: number }
  >();
  /** Of the last event: from its happening to here. */
  private eventLagMs = 0;
  private eventAt = -Infinity;

  /**
   * @param zones the zones that we have, by name
   * @param repair makes a zone of ours what libzonecfg says now
   */
  constructor(
    private readonly options: ReconcileOptions,
    private readonly zones: ReadonlyMap<string, Zone>,
    private readonly repair: (zonename: string, repair: Repair) => Promise<void>,
  ) {
    const { reconcileMs } = options;
    this.backoff = new Backoff(Math.min(FIRST_RETRY_MS, reconcileMs), reconcileMs);
  }

  /** From now on we have all zones of the first snapshot: before that there is nothing to compare with. */
  start(): void {
    if (this.state === 'new') {
      this.wait();
    }
  }

  stop(): void {
    this.state = 'stopped';
    clearTimeout(this.timer);
  }

  /** A zone could not be read: we run again soon. */
  soon(): void {
    if (!this.failed) {
      this.failed = true;
      this.hasten(this.backoff.next());
    }
  }

  /** Events were lost. What they were about can have happened behind a listing under way: then another one follows. */
  lost(): void {
    this.hasten(0);
  }

  /** An event came in. */
  onEvent(event: RawZoneEvent): void {
    this.eventLagMs = Date.now() - Number(event.when / 1_000_000n);
    this.eventAt = performance.now();
    this.suspects.delete(event.zonename);
  }

  /** Compares once, and repairs what has differed for long enough. Never rejects. @returns how many differences are left */
  async run(): Promise<number> {
    this.failed = false;
    try {
      await this.compare();
      if (this.suspects.size === 0) {
        await this.checkMounts();
      }
    } catch (err) {
      this.options.log.error({ err }, 'reconcile failed');
      this.soon();
    }
    return this.suspects.size;
  }

  /** No event says that a running zone lost its metadata directory. The zone logs it. */
  async checkMounts(): Promise<void> {
    const queue = new TaskQueue({ tasks: 1 });
    for (const zone of [...this.zones.values()]) {
      if (this.state === 'running' && performance.now() >= this.dueAt) {
        // Events were lost meanwhile, which is more urgent.
        return;
      }
      // One after the other, by one process. A zone whose file system hangs is no reason to check no other. One in each
      // iteration of the loop: the garbage of thousands at once makes V8 widen its nursery for good.
      if (zone.state === 'running' && zone.directory !== null) {
        await settlesWithin(zone.directory.check(), CHECK_MS);
        await queue.next();
      }
    }
  }

  private hasten(ms: number): void {
    this.dueAt = Math.min(this.dueAt, performance.now() + ms);
    if (this.state === 'waiting') {
      this.wait();
    }
  }

  private wait(): void {
    this.state = 'waiting';
    // A suspect is repaired by the next run, which may fail.
    if (!this.failed && this.suspects.size === 0) {
      this.backoff.reset();
    }
    this.dueAt = Math.min(this.dueAt, performance.now() + this.options.reconcileMs);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.state = 'running';
      this.dueAt = Infinity;
      void this.run().then(() => {
        if (this.state === 'running') {
          this.wait();
        }
      });
    }, this.dueAt - performance.now()).unref();
  }

  private async compare(): Promise<void> {
    const { suspects } = this;
    const found = await this.differences();
    const now = performance.now();
    const lagMs = now - this.eventAt < LATEST_EVENT_MS ? this.eventLagMs : 0;
    const lateMs = Math.min(LATEST_EVENT_MS, Math.max(LATE_EVENT_MS, 2 * lagMs));
    for (const zonename of suspects.keys()) {
      if (!found.has(zonename)) {
        suspects.delete(zonename);
      }
    }
    for (const [zonename, repair] of found) {
      const suspect = suspects.get(zonename);
      if (this.state === 'stopped') {
        // Zones that we take down ourselves are no difference.
        return;
      }
      if (suspect?.repair !== repair) {
        suspects.set(zonename, { repair, since: now });
      } else if (now - suspect.since >= lateMs) {
        suspects.delete(zonename);
        this.options.log.warn({ zonename, repair }, 'reconcile repaired');
        await this.repair(zonename, repair);
      }
    }
    if (suspects.size > 0) {
      // A timer may come up to a millisecond early, and would cost the same wait again.
      this.hasten(lateMs + 1);
    }
  }

  private async differences(): Promise<Map<string, Repair>> {
    const { zones } = this;
    const found = new Map<string, Repair>();
    const listed = await listZones(this.options.platform);
    const seen = new Set(listed.unreadable.keys());
    for (const facts of listed.zones) {
      seen.add(facts.zonename);
      const zone = zones.get(facts.zonename);
      if (zone === undefined) {
        found.set(facts.zonename, 'missed creation');
      } else if (isOther(zone, facts)) {
        found.set(facts.zonename, 'changed identity');
      } else if (zone.state !== phaseOf(facts.state)) {
        found.set(facts.zonename, 'missed state');
      }
    }
    for (const zonename of zones.keys()) {
      if (!seen.has(zonename)) {
        found.set(zonename, 'missed deletion');
      }
    }
    return found;
  }
}

/** Whether a zone came back under the name as something else. */
export function isOther(zone: Zone, facts: ZoneFacts): boolean {
  return zone.facts.brand !== facts.brand || zone.facts.zonepath !== facts.zonepath;
}
