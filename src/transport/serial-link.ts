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
 * Made by its zone, which reports when it runs; the link asks for the VM's data then. What always holds: no dial before
 * the VM's data is loaded, none while the zone does not run, at most one at a time and ten a second. A close is followed
 * by a new dial, whatever events come before or after it; events and changes of the port's file only shorten a wait.
 * Nothing is sent that was not requested. serial-dialer.ts has the waits. A dial that hangs in the zone's file system is
 * abandoned, but its request below the root continues: the next one waits for it.
 */
import assert from 'node:assert';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { codeOf, messageOf } from '../lib/errors';
import { Fsm } from '../lib/fsm';
import type { StateHandle, StateRecord } from '../lib/fsm';
import { afterPolling, RunQueue, type Scheduler, type TaskQueue } from '../lib/scheduler';
import { ThrottledLog, type ThrottledLogSink } from '../log';
import type { ZoneRoot } from '../platform/zone-root';
import type { ConnectionContext } from './connection';
import type { Handle, Link, LinkLimits, LinkObserver } from './link';
import { NetStream } from './net-stream';
import { DEFAULT_PORT, DialAttempts, dialPort, FAST_MS, OTHER_ZONE } from './serial-dialer';
import { portOf, watchPort, type ZoneOfPeer } from './serial-dialer';
import { PortConnection } from './serial-input';
import { SerialStats } from './serial-stats';
import type { CountedConnection, PortObserver, SerialCounts } from './serial-stats';
import type { Watches } from './watches';
import { ZoneQuota, type MemoryQuota } from './zone-quota';

/** How often the VM's data is asked for again. Each answer may take seconds itself. */
const LOAD_RETRY_MS = 250;
/** Connecting to a local socket takes no time; a file system may hang. */
const DIAL_MS = 5000;

/** A connection that ends so soon, without a byte, means that another process has the port. */
const BUSY_MS = 1000;
/** How long after a reboot's event a new process may take to make its port. */
const REBOOT_MS = 10_000;

/** The port in the VM's data. */
export interface PortFacts {
  /** The VM's `com2`, whatever it is. */
  readonly com2: unknown;
}

export interface SerialOptions {
  readonly zonename: string;
  readonly root: ZoneRoot;
  readonly zoneOfPeer: ZoneOfPeer;
  /** Settles when the VM's data is loaded, or with undefined: ask again. Never rejects. */
  readonly facts: () => Promise<PortFacts | undefined>;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly portObserver: PortObserver;
  /** The zone ran already when the agent first saw it: times count from then. */
  readonly ranBefore: boolean;
  readonly limits: LinkLimits;
  /** One for the whole process. */
  readonly scheduler: Scheduler;
  /** One for the whole process. */
  readonly watches: Watches;
  /** One for the whole process; its own when it is left out. */
  readonly memory?: MemoryQuota;
  /** One for the whole process: the dials of all links begin in it. */
  readonly dialLimiter: TaskQueue;
  /** One for the whole process. */
  readonly portReads: TaskQueue;
  readonly log: ThrottledLogSink;
  readonly now?: () => number;
}

export type SerialState =
  'idle' | 'loading' | 'none' | 'connecting' | 'waiting' | 'connected' | 'stopping' | 'stopped';

type Handled = StateHandle<SerialState>;

/** The link of one HVM zone. Its zone reports when the guest runs; `stop` ends it for good. */
export class SerialLink implements Link {
  private readonly context: ConnectionContext;
  private readonly machine: Fsm<SerialState>;
  private readonly stats: SerialStats;
  private readonly attempts: DialAttempts;
  private readonly loadErrors: ThrottledLog;
  /** `running`, `stopped`, `rebooted` from the zone; `closed` from the connection. */
  private readonly signals = new EventEmitter();
  /** Path inside the zone; the default until the VM's data is loaded. */
  private port = DEFAULT_PORT;
  private session: PortSession | null = null;
  private dialled: Socket | null = null;
  /** Set by `stop`. */
  private graceMs: number | null = null;
  private stopped: Promise<void> | null = null;

  constructor(private readonly options: SerialOptions) {
    const { handle, limits, scheduler, memory, zonename, observer, portObserver } = options;
    const { watches, ranBefore, log } = options;
    const now = options.now ?? (() => performance.now());
    this.loadErrors = new ThrottledLog(log, now);
    this.attempts = new DialAttempts(log, now);
    this.stats = new SerialStats({ observer, port: portObserver, now, ranBefore });
    const quota = new ZoneQuota(limits, memory);
    const own = { queue: new RunQueue(), quota, observer: this.stats };
    this.context = { handle, limits, scheduler, watches, now, ...own };
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

  /** Host path of the port. */
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

  /** The zone does not run: there are no dials from now on. Repeating it is harmless. */
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
        this.attempts.reset();
        handle.goto(port === null ? 'none' : 'connecting');
      },
      (err) => {
        this.loadErrors.warn({ err }, 'cannot read the serial port of the VM from its data');
        askAgain();
      },
    );
  }

  private enterNone(handle: Handled): void {
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'rebooted', () => handle.goto('loading'));
    this.options.log.info({}, 'VM has no serial port for metadata');
  }

  private enterConnecting(handle: Handled): void {
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'rebooted', () => this.attempts.speedUp());
    handle.timeout(this.attempts.spacingMs(), () => {
      handle.leaving(this.options.dialLimiter.add(() => this.dial(handle)));
    });
  }

  private dial(handle: Handled): void {
    const { attempts, stats, port } = this;
    attempts.started();
    stats.dialled();
    const { zonename, root, zoneOfPeer } = this.options;
    const dial = dialPort({ zonename, root, port, zoneOfPeer }, (identity) =>
      attempts.found(identity),
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
    const dialNow = (): void => {
      this.attempts.speedUp();
      handle.goto('connecting');
    };
    handle.on(this.signals, 'rebooted', dialNow);
    handle.on(this.signals, 'running', dialNow);
    const wait = this.attempts.waitMs();
    handle.timeout(wait, () => handle.goto('connecting'));
    if (wait > FAST_MS) {
      handle.leaving(watchPort(this.options.root, this.port, this.attempts.identity, dialNow));
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
    const session = new PortSession(socket, options, (busy) => {
      // One that was closed with its zone may be late: there can be another already.
      if (this.session === session) {
        this.session = null;
        this.signals.emit('closed', busy);
      }
    });
    this.session = session;
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'rebooted', () => session.guestRebooted());
    handle.on(this.signals, 'closed', (busy) => {
      if (busy === true) {
        stats.busy();
        attempts.busy(this.path);
      } else {
        attempts.disconnected();
      }
      handle.goto('waiting');
    });
    handle.leaving(() => {
      // When the link stops, requests that were read are answered first.
      if (this.graceMs === null) {
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
    handle.timeout(this.graceMs ?? 0, () => session.destroy());
    // Requests that were sent already are still answered.
    void afterPolling().then(() => session.finish());
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
  readonly portReads: TaskQueue;
  readonly stats: SerialStats;
}

/**
 * One connection to a port with its counts and timers. It ends by itself, by `destroy`, by `finish`, or because the
 * guest rebooted and the port's file is another one now.
 */
class PortSession {
  private readonly connection: PortConnection;
  private readonly counted: CountedConnection;
  private readonly settling: NodeJS.Timeout;
  private rebootEnds: NodeJS.Timeout | null = null;
  private endWatch: () => void = () => undefined;

  /** @param closed runs once, when the descriptor is closed; `busy`: another process has the port */
  constructor(
    socket: Socket,
    private readonly options: PortSessionOptions,
    closed: (busy: boolean) => void,
  ) {
    const { zonename, portReads, context, stats } = options;
    const stream = new NetStream(socket, portReads, context.now);
    this.connection = new PortConnection(stream, { zonename, peer: null }, context, () => {
      clearTimeout(this.settling);
      this.stopWatching();
      stats.disconnected(this.counted);
      closed(!this.counted.settled);
    });
    this.counted = stats.connected(() => this.connection.dropped);
    this.settling = setTimeout(() => stats.settle(this.counted), BUSY_MS);
  }

  /**
   * The guest reboots. This may be the old process's connection, which is about to close, or the new one's already: it
   * is certainly old once the port's file is another one.
   */
  guestRebooted(): void {
    const { root, port, identity } = this.options;
    this.stopWatching();
    this.endWatch = watchPort(root, port, identity, () => this.destroy());
    this.rebootEnds = setTimeout(() => this.stopWatching(), REBOOT_MS);
  }

  /** Answers what was read, reads no more, then closes. */
  finish(): void {
    this.connection.finish();
  }

  destroy(): void {
    this.connection.destroy();
  }

  private stopWatching(): void {
    clearTimeout(this.rebootEnds ?? undefined);
    this.rebootEnds = null;
    this.endWatch();
    this.endWatch = () => undefined;
  }
}
