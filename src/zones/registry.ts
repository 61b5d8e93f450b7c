/*
 * Every zone of the node that we serve, kept true by events and, as a safety net, by reconciling.
 *
 *   first snapshot --+
 *   events ---------+--> add | move | remove --> Zone
 *   reconcile ------+
 *
 * Events are acted on in the order that they come in. A zone that comes back under the name of one that
 * is still closing waits for that. The reconcile compares what libzonecfg says with what we
 * have; a difference is checked a second time, since its event may just be on its way, and is then
 * repaired and logged: in a healthy run it finds nothing. One zone's trouble never stops another's work.
 */
import { EventEmitter } from 'node:events';
import type { Logger } from '../log';
import { SystemError } from '../lib/errors';
import { CooperativeYield } from '../lib/scheduler';
import type { Platform } from '../platform/libzonecfg';
import type { ZoneEvent, ZoneEvents } from './events';
import type { ZoneFacts } from '../platform/zone-facts';
import { isOther, Reconciler, type Repair } from './reconciler';
import { phaseOfEvent, phaseOfState, type Phase, type Zone } from './zone';

const NS_PER_MS = 1_000_000n;
/** A state that was published is set by then. */
const SETTLED_MS = 250;

export interface RegistryOptions {
  readonly platform: Platform;
  readonly events: ZoneEvents;
  readonly log: Logger;
  readonly reconcileMs: number;
  readonly makeZone: (facts: ZoneFacts) => Zone;
}

/** What a registry emits. */
interface RegistryEvents {
  added: [Zone];
  /** The platform says that it is in another state. */
  moved: [Zone];
  /** It is closed. Another of its name may be there already. */
  removed: [Zone];
  event: [ZoneEvent];
  repaired: [Repair];
}

/** The zones of the node. Started once, stopped once, with all of its zones. */
export class Registry extends EventEmitter<RegistryEvents> {
  private readonly zones = new Map<string, Zone>();
  /** Zones of the same name that are still closing. */
  private readonly closing = new Map<string, Promise<void>>();
  /** When we asked for zones ourselves, ns since 1970: events from before that are old. */
  private readonly askedAt = new Map<string, bigint>();
  /** Zones that are asked for once more, a while after an event of theirs. */
  private readonly settling = new Map<string, NodeJS.Timeout>();
  /** The end of the queue of zones that are brought up: one after the other, since none waits for anything. */
  private lastBound: Promise<void> = Promise.resolve();
  private unbound = 0;
  private readonly slice = new CooperativeYield();
  private readonly safetyNet: Reconciler;
  private stopped = false;

  constructor(private readonly options: RegistryOptions) {
    super();
    this.safetyNet = new Reconciler({
      platform: options.platform,
      log: options.log,
      everyMs: options.reconcileMs,
      zones: this.zones,
      repair: (zonename, repair) => {
        this.emit('repaired', repair);
        return this.hint(zonename);
      },
    });
  }

  /**
   * Takes the first snapshot and resolves when the sockets of all its zones listen, or have failed once: those
   * of running zones come first, and a record says when these do.
   */
  async start(): Promise<void> {
    const { events } = this.options;
    const early: ZoneEvent[] = [];
    let complete = false;
    events.on('data', (event: ZoneEvent) => {
      if (complete) {
        this.apply(event);
      } else {
        early.push(event);
      }
    });
    events.on('unreadable', (zonename: string, err: unknown) => {
      this.options.log.error({ err, zonename }, 'zone cannot be read and is not served');
    });
    events.on('lost', (count: number) => {
      this.options.log.warn({ count }, 'zone events were lost, listing all zones');
      this.safetyNet.lost();
    });
    const facts = await events.start();
    // One after the other, so that all of it goes in slices: to make thousands of zones takes its time too.
    // Guests of running zones may be asking already; the others ask when they boot.
    const runs = (zone: ZoneFacts): boolean => phaseOfState(zone.state) !== 'halted';
    const running = facts.filter(runs);
    for (const zone of running) {
      await this.add(zone);
    }
    this.options.log.info({ zones: running.length }, 'running zones are served');
    for (const zone of facts.filter((other) => !runs(other))) {
      await this.add(zone);
    }
    complete = true;
    for (const event of early) {
      this.apply(event);
    }
    this.safetyNet.start();
    if (events.changedMeanwhile) {
      this.safetyNet.soon();
    }
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
    const pending = Math.min(1, this.unbound);
    return { pending, waiting: this.unbound - pending };
  }

  /**
   * A brand hook says that something happened to a zone. It is only a hint: what libzonecfg says counts.
   * @returns what the zone is now, undefined when there is none
   */
  async notify(zonename: string): Promise<ZoneFacts | undefined> {
    const askedAt = nowNs();
    const facts = this.options.platform.zoneFacts(zonename);
    const known = this.zones.get(zonename);
    if (facts === undefined) {
      await this.remove(zonename);
    } else if (known === undefined) {
      await this.add(facts, askedAt);
    } else if (isOther(known, facts)) {
      await this.remove(zonename, facts);
      await this.add(facts, askedAt);
    } else if (known.state !== phaseOfState(facts.state)) {
      this.askedAt.set(zonename, askedAt);
      this.move(known, phaseOfState(facts.state));
    }
    return facts;
  }

  /** A zone may be other than we think: asks libzonecfg, and contains what goes wrong. */
  async hint(zonename: string): Promise<void> {
    try {
      await this.notify(zonename);
    } catch (err) {
      this.options.log.warn({ err, zonename }, 'zone could not be read');
      this.safetyNet.soon();
    }
  }

  /** Compares every zone with libzonecfg. @returns how many differences were repaired */
  reconcile(): Promise<number> {
    return this.safetyNet.run();
  }

  /** Stops the events, then every zone's link within `graceMs`. Idempotent. */
  async stop(graceMs: number): Promise<void> {
    if (this.stopped) {
      return;
    }
    this.stopped = true;
    for (const timer of this.settling.values()) {
      clearTimeout(timer);
    }
    this.safetyNet.stop();
    // Not waited for longer than for the guests: it hangs when another subscriber of the node does.
    const { events, log } = this.options;
    const unsubscribed = events.stop().catch((err: unknown) => {
      log.warn({ err }, 'zone events could not be unsubscribed');
    });
    const waitedEnough = new Promise((resolve) => setTimeout(resolve, graceMs).unref());
    await Promise.all([...this.zones.values()].map((zone) => zone.stop(graceMs)));
    await Promise.race([unsubscribed, waitedEnough]);
    await Promise.all(this.closing.values());
  }

  private apply(event: ZoneEvent): void {
    this.emit('event', event);
    const { zonename } = event;
    this.safetyNet.onEvent(event);
    try {
      switch (event.kind) {
        case 'deleted':
          void this.remove(zonename);
          return;
        case 'created':
        case 'changed': {
          const zone = this.zones.get(zonename);
          if (zone !== undefined && event.kind === 'changed') {
            this.follow(zone, phaseOfEvent(event.newstate), event.when);
          } else {
            this.discover(zonename, zone);
          }
          return;
        }
      }
    } catch (err) {
      if (!(err instanceof SystemError)) {
        throw err;
      }
      this.options.log.error({ err, zonename }, 'zone event could not be acted on');
      this.safetyNet.soon();
    }
  }

  /** An event that is older than our own question says nothing new: libzonecfg does. */
  private follow(zone: Zone, phase: Phase, whenNs: bigint): void {
    const askedAt = this.askedAt.get(zone.zonename);
    if (askedAt !== undefined && whenNs < askedAt) {
      if (zone.state !== phase) {
        this.askAgain(zone.zonename);
      }
      return;
    }
    this.askedAt.delete(zone.zonename);
    this.move(zone, phase);
  }

  /**
   * The kernel publishes a state before it sets it (zone.c, zone_status_set), so a question
   * between the two got the old one, and so may one that is asked at once: it is asked twice, a while apart.
   */
  private askAgain(zonename: string): void {
    void this.hint(zonename);
    if (!this.settling.has(zonename)) {
      const timer = setTimeout(() => {
        this.settling.delete(zonename);
        if (!this.stopped) {
          void this.hint(zonename);
        }
      }, SETTLED_MS);
      this.settling.set(zonename, timer.unref());
    }
  }

  /** Adds a zone that is new, or another than the one that we have: then that one's deletion was missed. */
  private discover(zonename: string, known: Zone | undefined): void {
    const askedAt = nowNs();
    const facts = this.options.platform.zoneFacts(zonename);
    if (facts !== undefined && (known === undefined || isOther(known, facts))) {
      void this.remove(zonename, facts);
      void this.add(facts, askedAt);
    }
  }

  /**
   * Adds a zone. Resolves when its socket listens, or could not be made to for now.
   * @param askedAt when it was seen so; left out: no event of it can be older
   */
  private async add(facts: ZoneFacts, askedAt?: bigint): Promise<void> {
    const before = this.closing.get(facts.zonename);
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
    let zone: Zone;
    try {
      zone = this.options.makeZone(facts);
    } catch (err) {
      // The reconcile finds it missing, and adds it then.
      this.options.log.error({ err, zonename: facts.zonename }, 'zone could not be added');
      this.safetyNet.soon();
      return;
    }
    this.zones.set(facts.zonename, zone);
    if (askedAt !== undefined) {
      this.askedAt.set(facts.zonename, askedAt);
    }
    this.emit('added', zone);
    this.unbound++;
    this.lastBound = this.lastBound.then(() => this.bind(zone));
    await this.lastBound;
  }

  private async bind(zone: Zone): Promise<void> {
    if (!this.stopped) {
      try {
        await zone.start();
      } catch (err) {
        zone.log.error({ err }, 'zone could not be brought up');
      }
      await this.slice.pause();
    }
    this.unbound--;
  }

  private move(zone: Zone, phase: Phase): void {
    zone.moved(phase);
    this.emit('moved', zone);
  }

  /**
   * @param next what is there now, where that is another zone. One at the same place keeps the socket's directory: it
   *   may run, with that directory mounted, and only its brand was changed
   */
  private async remove(zonename: string, next?: ZoneFacts): Promise<void> {
    const zone = this.zones.get(zonename);
    if (zone === undefined) {
      return;
    }
    this.zones.delete(zonename);
    this.askedAt.delete(zonename);
    const keeps = next?.zonepath === zone.facts.zonepath;
    const closing = (keeps ? zone.stop(0) : zone.close())
      .catch((err: unknown) => zone.log.error({ err }, 'zone could not be closed cleanly'))
      .then(() => {
        this.closing.delete(zonename);
        this.emit('removed', zone);
      });
    this.closing.set(zonename, closing);
    await closing;
  }
}

function nowNs(): bigint {
  return BigInt(Date.now()) * NS_PER_MS;
}
