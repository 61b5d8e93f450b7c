/*
 * Every zone of the node that we serve, kept true by events and, as a safety net, by reconciling.
 *
 *   first picture --+
 *   events ---------+--> learn | move | forget --> Zone
 *   reconcile ------+
 *
 * Events are acted on in the order that they come in. A zone that comes back under the name of one that
 * is still being taken down waits for that. The reconcile compares what libzonecfg says with what we
 * hold; a difference is looked at a second time, since its event may just be on its way, and is then
 * repaired and logged: in a healthy run it finds nothing. One zone's trouble never stops another's work.
 */
import { EventEmitter } from 'node:events';
import * as vasync from 'vasync';
import type { Logger } from '../log';
import { WorldError } from '../errors';
import type { Platform } from '../sys/ffi';
import type { ZoneEvent, ZoneEvents } from './events';
import { listZones, lookAt, type ZoneFacts } from './picture';
import { phaseOfEvent, phaseOfState, type Zone } from './zone';

/** Sockets that are being bound at once: enough to keep the disk busy, few enough to go on serving. */
const BIND_CONCURRENCY = 32;
/** An event on its way has arrived after this; a difference that is still there was missed. */
const SECOND_LOOK_MS = 2000;
/** A busy node's events come late: the second look waits for twice their delay, at most so long. */
const LAST_LOOK_MS = 60_000;

export interface RegistryOptions {
  readonly platform: Platform;
  readonly events: ZoneEvents;
  readonly log: Logger;
  readonly reconcileMs: number;
  readonly makeZone: (facts: ZoneFacts) => Zone;
}

export type Repair = 'missed creation' | 'missed deletion' | 'missed state' | 'changed identity';

interface Difference {
  readonly repair: Repair;
  readonly zonename: string;
  readonly facts: ZoneFacts | undefined;
}

/**
 * Emits 'arrived' (Zone), 'left' (Zone), 'moved' (Zone), 'repaired' (Repair), 'event' (ZoneEvent).
 */
export class Registry extends EventEmitter {
  private readonly options: RegistryOptions;
  private readonly zones = new Map<string, Zone>();
  /** Zones of the same name that are still being taken down. */
  private readonly departures = new Map<string, Promise<void>>();
  private readonly binding: vasync.Queue<Zone>;
  private timer: NodeJS.Timeout | null = null;
  private reconciling: Promise<number> | null = null;
  /** Zones that events came of since the reconcile under way took its first look. */
  private readonly touched = new Set<string>();
  /** Of the last event: from its happening to here. */
  private eventLagMs = 0;
  private stopped = false;

  constructor(options: RegistryOptions) {
    super();
    this.options = options;
    this.binding = vasync.queue((zone: Zone, done) => {
      zone.start().then(
        () => done(),
        (err: unknown) => {
          zone.log.error({ err }, 'zone could not be brought up');
          done();
        },
      );
    }, BIND_CONCURRENCY);
  }

  /** Takes the first picture and resolves when the sockets of all its zones listen, or have failed once. */
  async start(): Promise<void> {
    const { events } = this.options;
    const early: ZoneEvent[] = [];
    let pictureTaken = false;
    events.on('data', (event: ZoneEvent) => {
      if (pictureTaken) {
        this.apply(event);
      } else {
        early.push(event);
      }
    });
    events.on('lost', (count: number) => {
      this.options.log.warn({ count }, 'zone events were lost, looking for myself');
      void this.reconcile();
    });
    const facts = await events.start();
    const listening = facts.map((zone) => this.learn(zone));
    pictureTaken = true;
    for (const event of early) {
      this.apply(event);
    }
    await Promise.all(listening);
    this.schedule();
  }

  get(zonename: string): Zone | undefined {
    return this.zones.get(zonename);
  }

  all(): IterableIterator<Zone> {
    return this.zones.values();
  }

  get size(): number {
    return this.zones.size;
  }

  /** Zones whose socket is being bound, and those that wait for it: for status. */
  get bindingStatus(): { readonly pending: number; readonly waiting: number } {
    return { pending: this.binding.npending, waiting: this.binding.queued.length };
  }

  /**
   * A brand hook says that something happened to a zone. It is only a hint: what libzonecfg says counts.
   * @returns what the zone is now, undefined when there is none
   */
  async notify(zonename: string): Promise<ZoneFacts | undefined> {
    const facts = lookAt(this.options.platform, zonename);
    const known = this.zones.get(zonename);
    if (facts === undefined) {
      await this.forget(zonename);
    } else if (known === undefined) {
      await this.learn(facts);
    } else if (known.state !== phaseOfState(facts.state)) {
      this.move(known, phaseOfState(facts.state));
    }
    return facts;
  }

  /** Somebody else's view of a zone differs from ours: looks for itself, and contains what goes wrong. */
  async hint(zonename: string): Promise<void> {
    try {
      await this.notify(zonename);
    } catch (err) {
      this.options.log.warn({ err, zonename }, 'zone could not be looked at');
    }
  }

  /** Compares every zone with libzonecfg. @returns how many differences were repaired */
  reconcile(): Promise<number> {
    this.reconciling ??= this.reconcileOnce().finally(() => {
      this.reconciling = null;
    });
    return this.reconciling;
  }

  /** Stops the events, then every zone's link within `graceMs`. Idempotent. */
  async stop(graceMs: number): Promise<void> {
    if (this.stopped) {
      return;
    }
    this.stopped = true;
    if (this.timer !== null) {
      clearTimeout(this.timer);
    }
    await this.options.events.stop();
    await Promise.all([...this.zones.values()].map((zone) => zone.stop(graceMs)));
    await Promise.all(this.departures.values());
    this.binding.kill();
  }

  private apply(event: ZoneEvent): void {
    this.emit('event', event);
    const { zonename } = event;
    this.eventLagMs = Date.now() - Number(event.when / 1_000_000n);
    if (this.reconciling !== null) {
      this.touched.add(zonename);
    }
    try {
      switch (event.kind) {
        case 'deleted':
          void this.forget(zonename);
          return;
        case 'created':
        case 'changed': {
          const zone = this.zones.get(zonename);
          if (zone === undefined) {
            this.discover(zonename);
          } else if (event.kind === 'changed') {
            this.move(zone, phaseOfEvent(event.newstate));
          } else {
            this.replaceIfOther(zone);
          }
          return;
        }
      }
    } catch (err) {
      if (!(err instanceof WorldError)) {
        throw err;
      }
      this.options.log.error({ err, zonename }, 'zone event could not be acted on');
    }
  }

  private discover(zonename: string): void {
    const facts = lookAt(this.options.platform, zonename);
    if (facts !== undefined) {
      void this.learn(facts);
    }
  }

  /** A creation of a zone that we hold: its deletion was missed, and it may be another brand now. */
  private replaceIfOther(zone: Zone): void {
    const facts = lookAt(this.options.platform, zone.zonename);
    if (facts !== undefined && isOther(zone, facts)) {
      void this.forget(zone.zonename);
      void this.learn(facts);
    }
  }

  /** Takes a zone in. Resolves when its socket listens, or could not be made to for now. */
  private async learn(facts: ZoneFacts): Promise<void> {
    const before = this.departures.get(facts.zonename);
    if (before !== undefined) {
      await before;
      if (!this.stopped && !this.zones.has(facts.zonename)) {
        // Time has passed since the zone was seen: what counts is what it is now.
        await this.hint(facts.zonename);
      }
      return;
    }
    if (this.stopped || this.zones.has(facts.zonename)) {
      return;
    }
    const zone = this.options.makeZone(facts);
    this.zones.set(facts.zonename, zone);
    this.emit('arrived', zone);
    await new Promise<void>((resolve) => this.binding.push(zone, () => resolve()));
  }

  private move(zone: Zone, phase: ReturnType<typeof phaseOfEvent>): void {
    zone.moved(phase);
    this.emit('moved', zone);
  }

  private async forget(zonename: string): Promise<void> {
    const zone = this.zones.get(zonename);
    if (zone === undefined) {
      return;
    }
    this.zones.delete(zonename);
    const departure = zone
      .leave()
      .catch((err: unknown) => zone.log.error({ err }, 'zone could not be taken down cleanly'))
      .then(() => {
        this.departures.delete(zonename);
        this.emit('left', zone);
      });
    this.departures.set(zonename, departure);
    await departure;
  }

  private schedule(): void {
    if (this.stopped) {
      return;
    }
    this.timer = setTimeout(() => {
      void this.reconcile().then(() => this.schedule());
    }, this.options.reconcileMs);
    this.timer.unref();
  }

  /** Waits until events that were on their way at the first look have come. */
  private async settle(): Promise<void> {
    const start = performance.now();
    let waited = 0;
    while (waited < Math.min(LAST_LOOK_MS, Math.max(SECOND_LOOK_MS, 2 * this.eventLagMs))) {
      await new Promise((resolve) => setTimeout(resolve, SECOND_LOOK_MS).unref());
      waited = performance.now() - start;
    }
  }

  private async reconcileOnce(): Promise<number> {
    const { log } = this.options;
    this.touched.clear();
    try {
      const first = await this.differences();
      if (first.size === 0) {
        return 0;
      }
      await this.settle();
      const second = await this.differences();
      const missed = [...second.values()].filter(
        ({ zonename, repair }) =>
          first.get(zonename)?.repair === repair && !this.touched.has(zonename),
      );
      for (const difference of missed) {
        log.warn(
          { zonename: difference.zonename, repair: difference.repair },
          'reconcile repaired',
        );
        this.emit('repaired', difference.repair);
        await this.repair(difference);
      }
      return missed.length;
    } catch (err) {
      log.error({ err }, 'reconcile failed');
      return 0;
    }
  }

  private async differences(): Promise<Map<string, Difference>> {
    const found = new Map<string, Difference>();
    const seen = new Set<string>();
    for (const facts of await listZones(this.options.platform)) {
      const { zonename } = facts;
      seen.add(zonename);
      const zone = this.zones.get(zonename);
      if (zone === undefined) {
        found.set(zonename, { repair: 'missed creation', zonename, facts });
      } else if (isOther(zone, facts)) {
        found.set(zonename, { repair: 'changed identity', zonename, facts });
      } else if (zone.state !== phaseOfState(facts.state)) {
        found.set(zonename, { repair: 'missed state', zonename, facts });
      }
    }
    for (const zonename of this.zones.keys()) {
      if (!seen.has(zonename)) {
        found.set(zonename, { repair: 'missed deletion', zonename, facts: undefined });
      }
    }
    return found;
  }

  private async repair({ zonename, facts }: Difference): Promise<void> {
    const zone = this.zones.get(zonename);
    if (facts === undefined) {
      await this.forget(zonename);
    } else if (zone === undefined) {
      await this.learn(facts);
    } else if (isOther(zone, facts)) {
      await this.forget(zonename);
      await this.learn(facts);
    } else {
      this.move(zone, phaseOfState(facts.state));
    }
  }
}

function isOther(zone: Zone, facts: ZoneFacts): boolean {
  return zone.facts.brand !== facts.brand || zone.facts.zonepath !== facts.zonepath;
}
