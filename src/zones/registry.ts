/*
 * Every zone of the node that we serve, kept true by events and, as a safety net, by reconciling.
 *
 *   first snapshot --+
 *   events ---------+--> add | move | remove --> Zone
 *   reconcile ------+
 *
 * Events are acted on in the order that they come in. A zone that comes back under the name of one that is still closing
 * waits for that. One zone's trouble never stops another's work.
 */
import { EventEmitter } from 'node:events';
import { settlesWithin } from '../lib/bounded-wait';
import { afterPolling, CooperativeYield } from '../lib/scheduler';
import type { ZoneFacts } from '../platform/libzonecfg';
import type { RawZoneEvent } from '../platform/zone-events';
import { phaseOf, type Phase, type ZoneEvents } from './events';
import { isOther, Reconciler, type ReconcileOptions, type Repair } from './reconciler';
import type { Zone } from './zone';

const NS_PER_MS = 1_000_000n;
/** A state that was published is set after this. */
const SETTLED_MS = 250;
/** On a node that works the first list takes less by far. One whose ping is lost is waited for without end. */
const FIRST_LIST_MS = 5000;

export interface RegistryOptions extends ReconcileOptions {
  readonly events: ZoneEvents;
  readonly makeZone: (facts: ZoneFacts) => Zone;
}

/** What a registry emits. */
interface RegistryEvents {
  added: [Zone];
  /** The platform says that it is in another state. */
  moved: [Zone];
  /** It is closed. Another of its name may be there already. */
  removed: [Zone];
  event: [RawZoneEvent];
  repaired: [Repair];
}

/** Started once, stopped once, with all of its zones. */
export class Registry extends EventEmitter<RegistryEvents> {
  readonly safetyNet: Reconciler;
  private readonly zones = new Map<string, Zone>();
  /** Zones of the same name that are still closing. */
  private readonly closing = new Map<string, Promise<void>>();
  /** When we asked for zones ourselves, ns since 1970: events from before that are old. */
  private readonly askedAt = new Map<string, bigint>();
  /** Of the queue of zones that are brought up, one after the other. */
  private lastBound: Promise<void> = Promise.resolve();
  private unbound = 0;
  private readonly slice = new CooperativeYield();
  private stopped = false;

  constructor(private readonly options: RegistryOptions) {
    super();
    this.safetyNet = new Reconciler(options, this.zones, (zonename, repair) => {
      this.emit('repaired', repair);
      return this.hint(zonename);
    });
  }

  /**
   * Takes the first snapshot and resolves when the sockets of all its zones listen, or have failed once: those
   * of running zones come first, and a record says when these do.
   */
  async start(): Promise<void> {
    const { events, log } = this.options;
    events.on('unreadable', (zonename: string, err: unknown) => {
      log.error({ err, zonename }, 'zone cannot be read and is not served');
    });
    events.on('lost', (count: number) => {
      log.warn({ count }, 'zone events were lost, listing all zones');
      this.safetyNet.lost();
    });
    const waiting = setTimeout(() => {
      const text = 'no list of zones yet: the event channel of the platform does not answer';
      log.warn({}, text);
    }, FIRST_LIST_MS).unref();
    const facts = await events.start().finally(() => clearTimeout(waiting));
    // Guests of running zones may be asking already; the others ask when they boot.
    const runs = (zone: ZoneFacts): boolean => phaseOf(zone.state) !== 'halted';
    const running = facts.filter(runs);
    for (const zone of running) {
      await this.add(zone);
    }
    if (!this.stopped) {
      log.info({ zones: running.length }, 'running zones are served');
    }
    for (const zone of facts.filter((other) => !runs(other))) {
      await this.add(zone);
    }
    // Those that came meanwhile have waited in the stream, and are acted on before zones are compared.
    events.on('data', (event: RawZoneEvent) => this.apply(event));
    await afterPolling();
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
   * Something may have happened to a zone, as a brand hook says: what libzonecfg says counts.
   * @returns what the zone is now, undefined when there is none
   */
  async notify(zonename: string): Promise<ZoneFacts | undefined> {
    const askedAt = BigInt(Date.now()) * NS_PER_MS;
    const facts = this.options.platform.zoneFacts(zonename);
    const known = this.zones.get(zonename);
    if (facts === undefined) {
      await this.remove(zonename);
    } else if (known === undefined) {
      await this.add(facts, askedAt);
    } else if (isOther(known, facts)) {
      // That one's deletion was missed. The new one waits until it is closed.
      void this.remove(zonename, facts);
      await this.add(facts, askedAt);
    } else if (known.state !== phaseOf(facts.state)) {
      this.askedAt.set(zonename, askedAt);
      this.move(known, phaseOf(facts.state));
    }
    return facts;
  }

  /** As `notify`, and contains what goes wrong. */
  async hint(zonename: string): Promise<void> {
    if (this.stopped) {
      return;
    }
    try {
      await this.notify(zonename);
    } catch (err) {
      this.options.log.warn({ err, zonename }, 'zone could not be read');
      this.safetyNet.soon();
    }
  }

  /** Stops the events, then every zone's link within `graceMs`. Idempotent. */
  async stop(graceMs: number): Promise<void> {
    if (this.stopped) {
      return;
    }
    this.stopped = true;
    this.safetyNet.stop();
    // Not waited for longer than for the guests: it hangs when another subscriber of the node does.
    const { events, log } = this.options;
    const unsubscribing = events.stop().catch((err: unknown) => {
      log.warn({ err }, 'zone events could not be unsubscribed');
    });
    const waited = settlesWithin(unsubscribing, graceMs);
    await Promise.all([...this.zones.values()].map((zone) => zone.stop(graceMs)));
    await waited;
    await Promise.all(this.closing.values());
  }

  private apply(event: RawZoneEvent): void {
    this.emit('event', event);
    if (event.newstate === 'free') {
      // The last reference to a run is gone, a credential of a socket of ours for one: that may be long after the next
      // run began. `uninitialized` came before it, and before any next run (zone.c, zone_destroy, zone_free).
      return;
    }
    this.safetyNet.onEvent(event);
    const { zonename, newstate, oldstate } = event;
    const zone = this.zones.get(zonename);
    const isCreated = oldstate === '';
    if (newstate === '') {
      void this.remove(zonename);
    } else if (zone !== undefined && !isCreated) {
      this.follow(zone, phaseOf(newstate), event.when);
    } else {
      void this.hint(zonename);
    }
  }

  /**
   * An event that is older than our own question says nothing new: libzonecfg does. The kernel publishes a state before
   * it sets it (zone.c, zone_status_set), so it is asked twice, a while apart.
   */
  private follow(zone: Zone, phase: Phase, whenNs: bigint): void {
    const { zonename } = zone;
    const askedAt = this.askedAt.get(zonename);
    if (askedAt === undefined || whenNs >= askedAt) {
      this.askedAt.delete(zonename);
      this.move(zone, phase);
    } else if (zone.state !== phase) {
      void this.hint(zonename);
      setTimeout(() => void this.hint(zonename), SETTLED_MS).unref();
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
      if (!this.zones.has(facts.zonename)) {
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
    if (phase === 'running') {
      void zone.directory?.check();
    }
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
