/*
 * The safety net below the events: compares the zones that we have with what libzonecfg says.
 *
 *   list --differences?--> wait until late events have come --> list again --> repair what is left
 *
 * In a healthy run it finds nothing. A difference counts only if it is there twice and no event of its
 * zone came in between: then its event was missed. Made by the registry; runs now and then, soon after a
 * zone could not be read (for want of a descriptor, say), and one at a time.
 */
import type { Logger } from '../log';
import { Backoff } from '../lib/backoff';
import { Fsm, type StateHandle, type States } from '../lib/fsm';
import { TaskQueue } from '../lib/scheduler';
import type { Platform, ZoneFacts } from '../platform/libzonecfg';
import { listZones, phaseOf, type ZoneEvent } from './events';
import type { Zone } from './zone';

/** An event on its way has arrived after this; a difference that is still there was missed. */
const SECOND_LISTING_MS = 2000;
/** A busy node's events come late: the second listing waits for twice their delay, at most so long. */
const LATEST_LISTING_MS = 60_000;
/** After a listing that failed; the next time twice as long, and so on. */
const FIRST_RETRY_MS = 500;
/** An event's delay says nothing of those to come after this. */
const LAG_COUNTS_MS = 60_000;

export type Repair = 'missed creation' | 'missed deletion' | 'missed state' | 'changed identity';

export interface ReconcileOptions {
  readonly platform: Platform;
  readonly log: Logger;
  /** From the end of one run to the next, ms. */
  readonly reconcileMs: number;
}

type ReconcilerState = 'new' | 'waiting' | 'running' | 'stopped';
type Handled = StateHandle<ReconcilerState>;

/**
 * Runs from `start` to `stop`, over the map of zones that it was given.
 *
 *   new --start--> waiting --time, events lost--> running --done--> waiting        any --stop--> stopped
 */
export class Reconciler {
  private static readonly states: States<ReconcilerState, Reconciler> = {
    new: { next: ['waiting', 'stopped'], enter: () => undefined },
    waiting: {
      next: ['running', 'stopped', 'waiting'],
      enter: (handle, reconciler) => reconciler.enterWaiting(handle),
    },
    running: {
      next: ['waiting', 'stopped'],
      enter: (handle, reconciler) => reconciler.enterRunning(handle),
    },
    stopped: { next: [], enter: () => undefined },
  };

  private readonly machine: Fsm<ReconcilerState, Reconciler>;
  /** When the next run is due: `soon` after a zone could not be asked for, `now` where events were lost. */
  private due: 'periodic' | 'soon' | 'now' = 'periodic';
  /** Zones that events came of since the last run began. */
  private readonly touched = new Set<string>();
  /** Of the last event: from its happening to here. */
  private eventLagMs = 0;
  private eventAt = -Infinity;
  private readonly backoff: Backoff;

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
    this.machine = new Fsm('reconciler', Reconciler.states, 'new', this);
    this.machine.start();
  }

  /** From now on we have all zones of the first snapshot: before that there is nothing to compare with. */
  start(): void {
    if (!this.stopped) {
      this.machine.goto('waiting');
    }
  }

  stop(): void {
    if (!this.stopped) {
      this.machine.goto('stopped');
    }
  }

  /** A zone could not be asked for, so it may be other than we think. */
  soon(): void {
    if (this.due === 'periodic') {
      this.hasten('soon');
    }
  }

  /**
   * Events were lost. What they were about can have happened behind the first listing of a run under way: then another
   * one follows.
   */
  lost(): void {
    this.hasten('now');
  }

  /** An event came in. */
  onEvent(event: ZoneEvent): void {
    this.eventLagMs = Date.now() - Number(event.when / 1_000_000n);
    this.eventAt = performance.now();
    this.touched.add(event.zonename);
  }

  /** Compares once, and repairs what differs. Never rejects. */
  async run(): Promise<void> {
    const { log } = this.options;
    this.touched.clear();
    try {
      await this.checkMounts();
      const first = await this.differences();
      if (first.size === 0) {
        return;
      }
      await this.settle();
      const second = await this.differences();
      if (this.stopped) {
        // Zones that we take down ourselves are no difference.
        return;
      }
      for (const [zonename, difference] of second) {
        if (first.get(zonename) === difference && !this.touched.has(zonename)) {
          log.warn({ zonename, repair: difference }, 'reconcile repaired');
          await this.repair(zonename, difference);
        }
      }
    } catch (err) {
      log.error({ err }, 'reconcile failed');
      this.soon();
    }
  }

  private get stopped(): boolean {
    return this.machine.state === 'stopped';
  }

  private hasten(due: 'soon' | 'now'): void {
    this.due = due;
    if (this.machine.state === 'waiting') {
      this.machine.goto('waiting');
    }
  }

  private enterWaiting(handle: Handled): void {
    if (this.due === 'now') {
      handle.goto('running');
      return;
    }
    if (this.due === 'periodic') {
      this.backoff.reset();
    }
    const waitMs = this.due === 'soon' ? this.backoff.next() : this.options.reconcileMs;
    const timer = setTimeout(() => handle.goto('running'), waitMs).unref();
    handle.leaving(() => clearTimeout(timer));
  }

  private enterRunning(handle: Handled): void {
    this.due = 'periodic';
    void this.run().then(() => handle.goto('waiting'));
  }

  /** Waits until events that were on their way at the first listing have come. */
  private async settle(): Promise<void> {
    // Counted, not measured: a timer comes up to a millisecond early, and would cost another two seconds.
    for (let ms = 0; ms < LATEST_LISTING_MS; ms += SECOND_LISTING_MS) {
      const lagMs = performance.now() - this.eventAt < LAG_COUNTS_MS ? this.eventLagMs : 0;
      if (ms >= Math.max(SECOND_LISTING_MS, 2 * lagMs)) {
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, SECOND_LISTING_MS).unref());
    }
  }

  /** No event says that a running zone lost its metadata directory. The zone logs it. */
  private async checkMounts(): Promise<void> {
    const queue = new TaskQueue({ tasks: 1 });
    for (const zone of [...this.zones.values()]) {
      // Not waited for: one whose file system hangs is no reason to check no other. One in each iteration of the loop:
      // the garbage of thousands at once makes V8 widen its nursery for good.
      if (zone.state === 'running' && zone.directory !== null) {
        void zone.directory.check();
        await queue.next();
      }
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
