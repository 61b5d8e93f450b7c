/*
 * A registry on a simulated node. Its zones have real sockets and listen to the node's real event channel,
 * and go through their states by simcn's kernel, which loses the events that a test wants to have lost.
 */
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_LINK_LIMITS } from '../../src/transport/link';
import { ROOT_ONLY } from '../../src/transport/socket-file';
import { MemoryQuota } from '../../src/transport/zone-quota';
import { PeriodicTimer } from '../../src/lib/periodic-timer';
import { Scheduler } from '../../src/lib/scheduler';
import { ZoneSocket } from '../../src/transport/socket-server';
import type { Platform } from '../../src/platform/libzonecfg';
import { bindZoneEvents, type ZoneSubscription } from '../../src/platform/zone-events';
import { ZoneRoots } from '../../src/platform/zone-root';
import { ZoneEvents } from '../../src/zones/events';
import type { ZoneFacts } from '../../src/platform/libzonecfg';
import { Registry } from '../../src/zones/registry';
import { Zone, type SocketLink, type MountManager } from '../../src/zones/zone';
import { FaultTable } from '../../tools/simcn/faults';
import { Kernel, type KernelStatus } from '../../tools/simcn/kernel';
import { makeNode, type EmulatedNode } from './emulated-node';
import { logRecords } from './log-records';
import { unchangingWatches } from './verb-options';
import { Recorder } from './recorder';

/** No zone has it: events of it change nothing. */
const NOBODY = 'nobody';
/** More than `MOST_QUEUED` by far. */
const FLOOD = 100;
const MOST_QUEUED = 32;
/** Off the main thread a flood is through long before. */
const BLOCKED_MS = 150;
/** Events that have not come after this were missed. */
const LATE_EVENT_MS = 2100;
/** No reconcile by the clock. */
const NEVER_MS = 3_600_000;

export interface ServedOptions {
  /** What sees to a zone's mount; left out: nobody. */
  readonly directory?: (facts: ZoneFacts) => MountManager;
  /** Stands in front of the platform that the registry asks. */
  readonly platform?: (real: Platform) => Platform;
  /** Stands in front of its subscription. */
  readonly subscription?: (real: ZoneSubscription) => ZoneSubscription;
  /** Stands in front of each zone's link. */
  readonly link?: (real: ZoneSocket, facts: ZoneFacts) => SocketLink;
}

/** The node, of which a test makes one at a time. */
export class ZonedNode {
  readonly node: EmulatedNode = makeNode();
  readonly faults = new FaultTable();
  readonly kernel = new Kernel(this.node.emulation, this.faults);
  private readonly statuses = new Map<string, KernelStatus>();

  async create(zonename: string, brand?: string): Promise<void> {
    this.node.addZone(zonename, brand);
    await this.kernel.configured(zonename);
  }

  /** Takes a zone through these states, with their events. */
  async move(zonename: string, ...path: readonly KernelStatus[]): Promise<void> {
    for (const to of path) {
      await this.kernel.move(zonename, this.statuses.get(zonename) ?? 'uninitialized', to);
      this.statuses.set(zonename, to);
    }
  }

  boot(zonename: string): Promise<void> {
    return this.move(zonename, 'initialized', 'ready', 'running');
  }

  halt(zonename: string): Promise<void> {
    return this.move(zonename, 'shutting_down', 'down', 'dying', 'dead', 'free');
  }

  async destroy(zonename: string): Promise<void> {
    this.node.emulation.zoneDelete(zonename);
    this.statuses.delete(zonename);
    await this.kernel.deleted(zonename);
  }

  /** Does it while the events of all zones are lost without notice. */
  async withLostEvents(work: () => Promise<void>): Promise<void> {
    this.faults.set({ name: 'events.drop', value: 0, zonename: null });
    await work();
    this.faults.clear();
  }

  /** So many events at once, to a main thread that is busy, that a subscriber of `subscribe` loses some. */
  async flood(): Promise<void> {
    const { emulation } = this.node;
    const when = BigInt(Date.now()) * 1_000_000n;
    const sent = Array.from({ length: FLOOD }, () =>
      emulation.publish(NOBODY, 1, 'ready', 'ready', when),
    );
    await nextTurn();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCKED_MS);
    await Promise.all(sent);
  }

  /** For `ZoneEvents`. */
  bind(wrap: (real: ZoneSubscription) => ZoneSubscription = (real) => real): typeof bindZoneEvents {
    const options = { root: this.node.root, maxQueued: MOST_QUEUED };
    return (onEvent, onLost) => wrap(bindZoneEvents(onEvent, onLost, options));
  }
}

/** What serves a node's zones. */
export class ServedZones {
  readonly logged = logRecords();
  readonly registry: Registry;
  readonly repairs: string[] = [];
  private readonly scheduler = new Scheduler();
  private readonly timer = new PeriodicTimer();
  private readonly zoned: ZonedNode;
  /** Nobody looks below them here, so there are no processes. */
  private readonly roots: ZoneRoots;
  private readonly options: ServedOptions;

  constructor(zoned: ZonedNode, options: ServedOptions = {}) {
    this.zoned = zoned;
    this.options = options;
    this.roots = new ZoneRoots(zoned.node.root);
    const { platform } = zoned.node;
    const asked = options.platform?.(platform) ?? platform;
    this.registry = new Registry({
      platform: asked,
      events: new ZoneEvents(asked, zoned.bind(options.subscription)),
      log: this.logged.log,
      reconcileMs: NEVER_MS,
      makeZone: (facts) => this.make(facts),
    });
    this.registry.on('repaired', (repair) => this.repairs.push(repair));
  }

  /** Compares now, and again once late events would have come. @returns how many differences were repaired */
  async reconcile(): Promise<number> {
    const before = this.repairs.length;
    if ((await this.registry.safetyNet.run()) > 0) {
      await delay(LATE_EVENT_MS);
      await this.registry.safetyNet.run();
    }
    return this.repairs.length - before;
  }

  /** The zones that are held, each with its state, by name. */
  get states(): Record<string, string> {
    const zones = [...this.registry.all()].sort((a, b) => (a.zonename < b.zonename ? -1 : 1));
    return Object.fromEntries(zones.map((zone) => [zone.zonename, zone.state]));
  }

  private make(facts: ZoneFacts): Zone {
    const log = this.logged.zoneLog(facts.zonename);
    const socket = new ZoneSocket({
      zonename: facts.zonename,
      path: this.zoned.node.paths.zoneSocket(facts.zonename),
      handle: () => ({ kind: 'success', text: facts.brand }),
      observer: new Recorder(),
      limits: DEFAULT_LINK_LIMITS,
      scheduler: this.scheduler,
      watches: unchangingWatches(),
      timer: this.timer,
      log,
      memory: new MemoryQuota(() => Infinity),
      modes: ROOT_ONLY,
      peerOf: () => ({ zoneid: 0, pid: 1, uid: 0 }),
      accessOf: () => 'all',
    });
    const link = this.options.link?.(socket, facts) ?? socket;
    const directory = this.options.directory?.(facts) ?? null;
    const root = this.roots.of(this.zoned.node.paths.host(facts.zonepath));
    return new Zone(facts, log, { kind: 'socket', link }, directory, root);
  }
}

/** What has to be over before a link does that. */
interface Holds {
  readonly start?: () => Promise<void>;
  readonly stop?: () => Promise<void>;
}

/** A link whose start or end takes as long as a test likes. */
export class HeldLink implements SocketLink {
  private readonly real: ZoneSocket;
  private readonly holds: Holds;

  constructor(real: ZoneSocket, holds: Holds) {
    this.real = real;
    this.holds = holds;
  }

  get state(): string {
    return this.real.state;
  }

  get path(): string {
    return this.real.path;
  }

  get connections(): number {
    return this.real.connections;
  }

  get file(): ZoneSocket['file'] {
    return this.real.file;
  }

  history(): ReturnType<ZoneSocket['history']> {
    return this.real.history();
  }

  async start(): Promise<void> {
    await this.holds.start?.();
    await this.real.start();
  }

  async stop(graceMs: number): Promise<void> {
    await this.holds.stop?.();
    await this.real.stop(graceMs);
  }

  remove(): void {
    this.real.remove();
  }
}
