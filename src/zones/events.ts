/*
 * Zone state changes as an object-mode stream.
 *
 *   bind --> critical enter --> list --> critical exit --1--> list again
 *                                              |
 *                                              0
 *                                              v
 *                                     'ready' (the snapshot) --> 'data', 'data', ...
 *
 * The snapshot and the events after it leave no gap but one: while it is taken the platform drops events, and a change
 * in that time makes us list again, for as long as LONGEST_SNAPSHOT_MS. What libzonecfg drops between its ping and the
 * end of the section it tells nobody (zn_cb): the reconcile finds it. Usable alone: see tools/zone-events.
 *
 * A listing is one read of the index and one call for the kernel's zones (platform/libzonecfg.ts), done in slices:
 * thousands of zones never stall the requests of one.
 */
import { Readable } from 'node:stream';
import { SystemError } from '../lib/errors';
import { CooperativeYield } from '../lib/scheduler';
import { factsOf, type Platform, type ZoneFacts } from '../platform/libzonecfg';
import { bindZoneEvents, type ZoneSubscription } from '../platform/zone-events';

/**
 * A node that boots its zones just now has no time without events for minutes, and while the critical section is held
 * libzonecfg drops every event of every zone (zn_cb).
 */
const LONGEST_SNAPSHOT_MS = 2000;

/** What a zone's state means for its guest. */
export type Phase = 'halted' | 'ready' | 'running';

/**
 * The phase that a state means: of libzonecfg, or of the kernel's events (zone.c, zone_status_table), in which a booting
 * zone is `ready`. What is neither `ready` nor `running` does not run.
 */
export function phaseOf(state: string): Phase {
  return state === 'ready' || state === 'running' ? state : 'halted';
}

/**
 * Emits 'ready' with the ZoneFacts of every zone, then 'data' with RawZoneEvents; 'unreadable' with a zone that libzonecfg
 * cannot read, and why; 'lost' with a number of events that are missing: the zones must be listed again.
 */
export class ZoneEvents extends Readable {
  /**
   * Whether zones changed while the first snapshot was taken. The kernel publishes a change before it makes
   * it (zone.c, zone_status_set), so that the listing which replaces the event may have come too early.
   */
  changedMeanwhile = false;
  private subscription: ZoneSubscription | null = null;
  private stopping: Promise<void> | null = null;

  constructor(
    private readonly platform: Platform,
    private readonly bind = bindZoneEvents,
  ) {
    super({ objectMode: true, highWaterMark: 1024 });
  }

  /**
   * Subscribes and takes the first snapshot; the same facts go out as 'ready'. Rejects when the platform refuses the
   * subscription or the listing.
   */
  async start(): Promise<readonly ZoneFacts[]> {
    const subscription = this.bind(
      (event) => {
        if (this.stopping === null) {
          this.push(event);
        }
      },
      (count) => this.emit('lost', count),
    );
    this.subscription = subscription;
    const { zones, unreadable } = await this.firstSnapshot(subscription);
    // A zone that cannot be read is no reason to go without all the others.
    for (const [zonename, err] of unreadable) {
      this.emit('unreadable', zonename, err);
    }
    this.emit('ready', zones);
    return zones;
  }

  /** Ends the subscription and the stream. Idempotent. */
  stop(): Promise<void> {
    this.stopping ??= (async () => {
      await this.subscription?.close();
      this.push(null);
    })();
    return this.stopping;
  }

  override _read(): void {
    // Events come when they come; what nobody reads yet waits in the stream's own queue.
  }

  private async firstSnapshot(subscription: ZoneSubscription): Promise<ZoneSnapshot> {
    const deadline = performance.now() + LONGEST_SNAPSHOT_MS;
    await subscription.enterCritical();
    try {
      do {
        const snapshot = await listZones(this.platform);
        if (!(await subscription.exitCritical())) {
          return snapshot;
        }
        this.changedMeanwhile = true;
      } while (performance.now() < deadline);
    } catch (err) {
      await subscription.abortCritical();
      throw err;
    }
    // Events are delivered from here on; what they replace is listed once more.
    await subscription.abortCritical();
    return listZones(this.platform);
  }
}

export interface ZoneSnapshot {
  readonly zones: readonly ZoneFacts[];
  /** Zones that the index names without a brand and whose XML libzonecfg cannot read: they are left as they are. */
  readonly unreadable: ReadonlyMap<string, SystemError>;
}

/** All configured zones but the global one. Throws a SystemError when the list itself cannot be had. */
export async function listZones(platform: Platform): Promise<ZoneSnapshot> {
  const zones = new Map<string, ZoneFacts>();
  const unreadable = new Map<string, SystemError>();
  const yielding = new CooperativeYield();
  const index = platform.zoneIndex();
  const live = platform.liveZones();
  await yielding.pause();
  for (const entry of index.entries()) {
    await yielding.pause();
    const { zonename } = entry;
    // As libzonecfg does, the first of two lines counts.
    if (zones.has(zonename) || unreadable.has(zonename)) {
      continue;
    }
    try {
      const facts = factsOf(entry, platform, live.get(zonename)?.state);
      if (facts !== undefined) {
        zones.set(zonename, facts);
      }
    } catch (err) {
      if (!(err instanceof SystemError)) {
        throw err;
      }
      unreadable.set(zonename, err);
    }
  }
  return { zones: [...zones.values()], unreadable };
}
