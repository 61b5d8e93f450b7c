/*
 * The link of an HVM zone: a connection to the hypervisor's end of the guest's second serial port.
 *
 *     idle --zoneRunning--> loading --VM known--> connecting --connected--> connected
 *                            |                      ^    |                      |
 *              no channel    |         time, file   |    | no port, refused,    | closed
 *                            v         changed,     |    v nobody listens       |
 *                           none       reboot      waiting <--------------------+
 *
 *     every one of these --zoneStopped--> idle        any --stop--> stopping --> stopped
 *
 * Made by its zone, which says when it runs; what the link must know of the VM it asks for then. What always
 * holds: no dial before the VM's data is loaded, none while the zone does not run, at most one at a time and
 * ten a second. A close is followed by a new dial, whatever events come before or after it; events and changes
 * of the port's file only shorten a wait. Nothing is ever sent unasked. serial-dialer.ts says how long a wait
 * is. The link gives up a dial that the zone's file system holds up, but the request below the root goes on:
 * the next one waits for it.
 */
import assert from 'node:assert';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { Backoff } from '../lib/backoff';
import { codeOf, messageOf } from '../lib/errors';
import { Fsm } from '../lib/fsm';
import type { StateHandle, StateRecord } from '../lib/fsm';
import { RunQueue } from '../lib/scheduler';
import type { Scheduler } from '../lib/scheduler';
import { ThrottledLog } from '../lib/throttled-log';
import type { ThrottledLogSink } from '../lib/throttled-log';
import type { ZoneRoot } from '../platform/zone-root';
import { Connection } from './connection';
import type { ConnectionContext } from './connection';
import type { LinkLimits } from './limits';
import type { Handle, Link, LinkObserver, PortObserver } from './link';
import { NetStream } from './net-stream';
import type { PortReads } from './net-stream';
import { watchPort } from './port-watch';
import { DEFAULT_PORT, DialAttempts, dialPort, OTHER_ZONE, portOf } from './serial-dialer';
import type { DialLimiter, ZoneOfPeer } from './serial-dialer';
import { SerialStats } from './stats';
import type { SerialCounts, PortConnection } from './stats';
import type { Watches } from './watches';
import { ZoneQuota, type MemoryQuota } from './zone-quota';

/** How often the VM's data is asked for again. Each answer may take seconds itself. */
const LOAD_RETRY_MS = 250;
/** A connect to a socket of this machine takes no time; a file system may hang. */
const DIAL_MS = 5000;

/** A port that ends a connection so soon, without a byte, is held by another. */
const HELD_MS = 1000;
/** After a reboot was told: how long a new process may take to make its port. */
const REBOOT_MS = 10_000;

/** What the VM's data says of the port. */
export interface PortFacts {
  /** The VM's `com2`, whatever it is. */
  readonly com2: unknown;
}

export interface SerialOptions {
  readonly zonename: string;
  readonly root: ZoneRoot;
  readonly zoneOfPeer: ZoneOfPeer;
  /** Settles when the VM's data is loaded, or with undefined to be asked again. Never rejects. */
  readonly facts: () => Promise<PortFacts | undefined>;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly portObserver: PortObserver;
  /** The zone runs already when the agent first sees it: times count from then. */
  readonly ranBefore: boolean;
  readonly limits: LinkLimits;
  /** One for the whole process. */
  readonly turns: Scheduler;
  readonly watches: Watches;
  /** One for the whole process; its own when it is left out. */
  readonly memory?: MemoryQuota;
  /** One for the whole process: the dials of all links go through it. */
  readonly dialLimiter: DialLimiter;
  /** One for the whole process. */
  readonly portReads: PortReads;
  readonly log: ThrottledLogSink;
  readonly now?: () => number;
}

export type SerialState =
  'idle' | 'loading' | 'none' | 'connecting' | 'waiting' | 'connected' | 'stopping' | 'stopped';

type Handled = StateHandle<SerialState>;

/** The link of one HVM zone. Its zone tells it when the guest runs; `stop` ends it for good. */
export class SerialLink implements Link {
  private readonly options: SerialOptions;
  private readonly context: ConnectionContext;
  private readonly machine: Fsm<SerialState>;
  private readonly stats: SerialStats;
  private readonly attempts: DialAttempts;
  private readonly loadFaults: ThrottledLog;
  /** `running`, `stopped`, `rebooted` from the zone; `closed` from the connection. */
  private readonly signals = new EventEmitter();
  /** The port inside the zone, once the VM's data told it. */
  private port = DEFAULT_PORT;
  private session: PortSession | null = null;
  private dialled: Socket | null = null;
  private graceMs = 0;
  private ending = false;
  private stopped: Promise<void> | null = null;

  constructor(options: SerialOptions) {
    const { handle, limits, turns: scheduler, memory, zonename, observer, portObserver } = options;
    const { watches } = options;
    const { ranBefore, log } = options;
    this.options = options;
    const now = options.now ?? (() => performance.now());
    this.loadFaults = new ThrottledLog(log, now);
    this.attempts = new DialAttempts(log, now);
    this.stats = new SerialStats({ observer, port: portObserver, now, ranBefore });
    const quota = new ZoneQuota(limits, memory);
    const own = { queue: new RunQueue(), quota, observer: this.stats };
    this.context = { channel: 'serial', handle, limits, scheduler, watches, now, ...own };
    this.machine = new Fsm<SerialState>(
      `serial link ${zonename}`,
      this.states(),
      'idle',
      undefined,
    );
    this.machine.start();
  }

  get state(): SerialState {
    return this.machine.state;
  }

  /** Host path of the port; of the usual one as long as the VM's data told no other. */
  get path(): string {
    return this.options.root.nameOf(this.port);
  }

  get connections(): number {
    return this.session === null ? 0 : 1;
  }

  get counts(): SerialCounts {
    return this.stats.counts();
  }

  history(): readonly StateRecord<SerialState>[] {
    return this.machine.history();
  }

  /** The zone runs: its hypervisor will make the port. Repeating it is harmless. */
  zoneRunning(): void {
    this.signals.emit('running');
  }

  /** The zone does not run: from now on nothing is tried. Repeating it is harmless. */
  zoneStopped(): void {
    this.signals.emit('stopped');
  }

  /** The hypervisor was executed again in the running zone. May come before or after all its effects. */
  guestRebooted(): void {
    this.signals.emit('rebooted');
  }

  stop(graceMs: number): Promise<void> {
    this.stopped ??= new Promise((resolve) => {
      this.graceMs = graceMs;
      this.ending = true;
      this.signals.once('ended', () => {
        this.options.portObserver.ended();
        resolve();
      });
      this.machine.goto('stopping');
    });
    return this.stopped;
  }

  private states(): ConstructorParameters<typeof Fsm<SerialState>>[1] {
    // From each of them the zone can stop, and the agent.
    const out = ['idle', 'stopping'] as const;
    return {
      idle: {
        next: ['loading', 'stopping'],
        enter: (h) => {
          h.on(this.signals, 'running', () => {
            this.stats.running();
            h.goto('loading');
          });
        },
      },
      loading: {
        next: ['loading', 'connecting', 'none', ...out],
        enter: (h) => this.enterLoading(h),
      },
      none: { next: ['loading', ...out], enter: (h) => this.enterNone(h) },
      connecting: { next: ['connected', 'waiting', ...out], enter: (h) => this.enterConnecting(h) },
      waiting: { next: ['connecting', ...out], enter: (h) => this.enterWaiting(h) },
      connected: { next: ['waiting', ...out], enter: (h) => this.enterConnected(h) },
      stopping: { next: ['stopped'], enter: (h) => this.enterStopping(h) },
      stopped: { next: [], enter: () => this.signals.emit('ended') },
    };
  }

  private enterLoading(handle: Handled): void {
    this.idleWhenStopped(handle);
    const askAgain = (): void => handle.timeout(LOAD_RETRY_MS, () => handle.goto('loading'));
    handle.until(
      this.options.facts(),
      (facts) => {
        if (facts === undefined) {
          askAgain();
          return;
        }
        const port = portOf(facts.com2);
        this.port = port ?? DEFAULT_PORT;
        this.attempts.startOver();
        handle.goto(port === null ? 'none' : 'connecting');
      },
      (err) => {
        this.loadFaults.warn({ err }, 'could not learn the port of the VM');
        askAgain();
      },
    );
  }

  private enterNone(handle: Handled): void {
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'rebooted', () => handle.goto('loading'));
    this.options.log.info({}, 'the VM has no metadata port');
  }

  private enterConnecting(handle: Handled): void {
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'rebooted', () => this.attempts.quicken());
    handle.timeout(this.attempts.restMs(), () => {
      handle.leaving(this.options.dialLimiter.enter(() => this.dial(handle)));
    });
  }

  private dial(handle: Handled): void {
    const { attempts, stats, port } = this;
    attempts.begun();
    stats.tried();
    const { zonename, root, zoneOfPeer } = this.options;
    const dial = dialPort({ zonename, root, port, zoneOfPeer }, (identity) =>
      attempts.met(identity),
    );
    handle.leaving(() => {
      if (this.dialled === null) {
        dial.cancel();
      }
    });
    handle.timeout(DIAL_MS, () => handle.goto('waiting'));
    handle.until(
      dial.done,
      (socket) => {
        this.dialled = socket;
        handle.goto('connected');
      },
      (err) => {
        if (codeOf(err) === OTHER_ZONE) {
          stats.refused('peer', { path: this.path, why: messageOf(err) });
        }
        attempts.failed(err, this.path);
        handle.goto('waiting');
      },
    );
  }

  private enterWaiting(handle: Handled): void {
    this.idleWhenStopped(handle);
    const quick = (): void => {
      this.attempts.quicken();
      handle.goto('connecting');
    };
    handle.on(this.signals, 'rebooted', quick);
    handle.on(this.signals, 'running', quick);
    const wait = this.attempts.waitMs();
    handle.timeout(wait, () => handle.goto('connecting'));
    if (wait > Backoff.QUICK_MS) {
      handle.leaving(watchPort(this.options.root, this.port, this.attempts.identity, quick));
    }
  }

  private enterConnected(handle: Handled): void {
    const socket = this.dialled;
    this.dialled = null;
    assert(socket !== null, 'connected without a socket');
    const { context, stats, attempts, port } = this;
    const { zonename, root, portReads } = this.options;
    const { identity } = attempts;
    const options = { zonename, root, port, identity, portReads, context, stats };
    const session = new PortSession(socket, options, (held) => {
      // One that the zone's end closed may be late: there can be another already.
      if (this.session === session) {
        this.session = null;
        this.signals.emit('closed', held);
      }
    });
    this.session = session;
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'rebooted', () => session.guestRebooted());
    handle.on(this.signals, 'closed', (held) => {
      if (held === true) {
        stats.heldByAnother();
        attempts.heldByAnother(this.path);
      } else {
        attempts.lost();
      }
      handle.goto('waiting');
    });
    handle.leaving(() => {
      // Not when the agent stops: that state answers first what was asked.
      if (!this.ending) {
        session.destroy();
      }
    });
  }

  private enterStopping(handle: Handled): void {
    const { session } = this;
    if (session === null) {
      handle.goto('stopped');
      return;
    }
    handle.on(this.signals, 'closed', () => handle.goto('stopped'));
    handle.timeout(this.graceMs, () => session.destroy());
    // Once round the event loop, to hear what has been asked already.
    setImmediate(() => setImmediate(() => session.finish()));
  }

  private idleWhenStopped(handle: Handled): void {
    handle.on(this.signals, 'stopped', () => handle.goto('idle'));
  }
}

interface PortSessionOptions {
  readonly zonename: string;
  readonly root: ZoneRoot;
  /** Path inside the zone. */
  readonly port: string;
  /** The file that was connected to. */
  readonly identity: string;
  readonly context: ConnectionContext;
  readonly portReads: PortReads;
  readonly stats: SerialStats;
}

/**
 * One connection to a port, from made to closed: counted, watched, told how it ended. It ends by itself, by
 * `destroy`, by `finish`, or because the guest rebooted and the port's file is another one now.
 */
class PortSession {
  private readonly options: PortSessionOptions;
  private readonly connection: Connection;
  private readonly counted: PortConnection;
  private readonly settling: NodeJS.Timeout;
  private rebootEnds: NodeJS.Timeout | null = null;
  private endWatch: () => void = () => undefined;

  /** @param closed runs once, when the descriptor is closed; `held`: another has the port */
  constructor(socket: Socket, options: PortSessionOptions, closed: (held: boolean) => void) {
    const { zonename, portReads, context, stats } = options;
    this.options = options;
    const stream = new NetStream(socket, portReads, context.now);
    this.connection = new Connection(stream, { zonename, peer: null }, context, () => {
      clearTimeout(this.settling);
      this.forgetReboot();
      stats.disconnected(this.counted);
      closed(!this.counted.settled);
    });
    this.counted = stats.connected(() => this.connection.dropped);
    this.settling = setTimeout(() => stats.settle(this.counted), HELD_MS);
  }

  /**
   * The guest was told to reboot. This may be the old process's connection, which is about to close, or
   * the new one's already: only where the port's file is another one is it surely old.
   */
  guestRebooted(): void {
    const { root, port, identity } = this.options;
    this.forgetReboot();
    this.endWatch = watchPort(root, port, identity, () => this.destroy());
    this.rebootEnds = setTimeout(() => this.forgetReboot(), REBOOT_MS);
  }

  /** Answers what was heard, reads no more, then closes. */
  finish(): void {
    this.connection.finish();
  }

  destroy(): void {
    this.connection.destroy();
  }

  private forgetReboot(): void {
    clearTimeout(this.rebootEnds ?? undefined);
    this.rebootEnds = null;
    this.endWatch();
    this.endWatch = () => undefined;
  }
}
