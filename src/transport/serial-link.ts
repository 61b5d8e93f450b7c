/*
 * The link of an HVM zone: a connection to the hypervisor's end of the guest's second serial port.
 *
 *     idle --zoneRunning--> loading --VM known--> connecting --connected--> connected
 *                            |                      ^    |                      |
 *              no channel    |               time,  |    | no port, refused,    | closed
 *                            v               reboot |    v nobody listens       |
 *                           none                   waiting <--------------------+
 *
 *     every one of these --zoneStopped--> idle        any --stop--> stopping --> stopped
 *
 * What always holds: no dial before the VM's data is loaded, none while the zone does not run, at most one at a time. A
 * close is followed by a new dial, whatever events come before or after it; events only shorten a wait. A dial that hangs
 * in the zone's file system is abandoned, but its request below the root continues: the next one waits for it.
 * serial-dialer.ts has the waits.
 */
import type { Socket } from 'node:net';
import { codeOf, messageOf } from '../lib/errors';
import { Fsm, type StateHandle, type StateRecord, type States } from '../lib/fsm';
import { afterPolling, RunQueue } from '../lib/scheduler';
import type { ThrottledLogSink } from '../log';
import type { ConnectionContext } from './connection';
import type { Link } from './link';
import { NetStream } from './net-stream';
import {
  DEFAULT_PORT,
  DialAttempts,
  dialLimiter,
  dialPort,
  OTHER_ZONE,
  portOf,
  type PortOwner,
} from './serial-dialer';
import { PortConnection } from './serial-input';
import { SerialStats, type SerialCounts, type SerialStatsOptions } from './serial-stats';
import { ZoneQuota, type MemoryQuota } from './zone-quota';

/** How often the VM's data is asked for again. Each answer may take seconds itself. */
const LOAD_RETRY_MS = 250;
/** Connecting to a local socket takes no time; a file system may hang. */
const DIAL_MS = 5000;
/** A connection that ends so soon, without a byte, means that another process has the port. */
const BUSY_MS = 1000;

export interface SerialOptions
  extends
    PortOwner,
    SerialStatsOptions,
    Pick<ConnectionContext, 'handle' | 'limits' | 'scheduler' | 'watches'> {
  /**
   * Settles when the VM's data is loaded, with its `com2`, whatever that is; or with undefined: ask again. Never
   * rejects.
   */
  readonly facts: () => Promise<{ readonly com2: unknown } | undefined>;
  /** Of the whole process. */
  readonly memory: MemoryQuota;
  readonly log: ThrottledLogSink;
  readonly now?: () => number;
}

export type SerialState =
  'idle' | 'loading' | 'none' | 'connecting' | 'waiting' | 'connected' | 'stopping' | 'stopped';

type Handled = StateHandle<SerialState>;

const nothing = (): void => undefined;
/** In any other state the zone can stop, and the agent. */
const OUT = ['idle', 'stopping'] as const;

/** Its zone reports when the guest runs; `stop` ends it for good. */
export class SerialLink implements Link {
  private static readonly states: States<SerialState, SerialLink> = {
    idle: { next: ['loading', 'stopping'], enter: nothing },
    loading: {
      next: ['loading', 'connecting', 'none', ...OUT],
      enter: (handle, link) => link.enterLoading(handle),
    },
    none: {
      next: ['loading', ...OUT],
      enter: (_, { options }) => options.log.info({}, 'VM has no serial port for metadata'),
    },
    connecting: {
      next: ['connected', 'waiting', ...OUT],
      enter: (handle, link) => handle.leaving(dialLimiter.add(() => link.dial(handle))),
    },
    waiting: {
      next: ['connecting', ...OUT],
      enter: (handle, link) =>
        handle.timeout(link.attempts.waitMs(), () => handle.goto('connecting')),
    },
    connected: { next: ['waiting', ...OUT], enter: (handle, link) => link.enterConnected(handle) },
    stopping: { next: ['stopped'], enter: (handle, link) => link.enterStopping(handle) },
    stopped: { next: [], enter: (_, link) => link.ended() },
  };

  private readonly context: ConnectionContext;
  private readonly machine: Fsm<SerialState, SerialLink>;
  private readonly stats: SerialStats;
  private readonly attempts: DialAttempts;
  /** Path inside the zone; the default until the VM's data is loaded. */
  private port = DEFAULT_PORT;
  private connection: PortConnection | null = null;
  /** Set by `stop`. */
  private graceMs: number | null = null;
  private stopped: Promise<void> | null = null;
  private ended = nothing;

  constructor(private readonly options: SerialOptions) {
    const { handle, limits, scheduler, watches, memory, zonename, log } = options;
    const now = options.now ?? (() => performance.now());
    this.attempts = new DialAttempts(log, now);
    this.stats = new SerialStats(options, now);
    const quota = new ZoneQuota(limits, memory);
    const own = { queue: new RunQueue(), quota, observer: this.stats };
    this.context = { handle, limits, scheduler, watches, now, ...own };
    this.machine = new Fsm(`serial link ${zonename}`, SerialLink.states, 'idle', this);
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
    return this.connection === null ? 0 : 1;
  }

  get counts(): Readonly<SerialCounts> {
    return this.stats.counts;
  }

  history(): readonly StateRecord<SerialState>[] {
    return this.machine.history();
  }

  /** The zone runs: its hypervisor will make the port. Repeating it is harmless. */
  zoneRunning(): void {
    if (this.state === 'idle') {
      this.stats.running();
      this.machine.goto('loading');
    }
  }

  /** The zone does not run: there are no dials from now on. Repeating it is harmless. */
  zoneStopped(): void {
    if (!['idle', 'stopping', 'stopped'].includes(this.state)) {
      this.machine.goto('idle');
    }
  }

  /**
   * The hypervisor was executed again in the running zone. May come before or after all its effects. A connection needs
   * no help: the kernel closes what the process had open before it executes it again (exit.c, restart_init).
   */
  guestRebooted(): void {
    this.attempts.speedUp();
    if (this.state === 'none') {
      this.machine.goto('loading');
    } else if (this.state === 'waiting') {
      this.machine.goto('connecting');
    }
  }

  stop(graceMs: number): Promise<void> {
    this.stopped ??= new Promise((resolve) => {
      this.graceMs = graceMs;
      this.ended = resolve;
      this.machine.goto('stopping');
    });
    return this.stopped;
  }

  private enterLoading(handle: Handled): void {
    void this.options.facts().then((facts) => {
      if (!handle.live) {
        return;
      }
      if (facts === undefined) {
        handle.timeout(LOAD_RETRY_MS, () => handle.goto('loading'));
        return;
      }
      const port = portOf(facts.com2);
      this.port = port ?? DEFAULT_PORT;
      this.attempts.reset();
      handle.goto(port === null ? 'none' : 'connecting');
    });
  }

  private dial(handle: Handled): void {
    const { options, attempts, stats } = this;
    stats.dialled();
    const abandoned = new AbortController();
    handle.leaving(() => abandoned.abort());
    handle.timeout(DIAL_MS, () => handle.goto('waiting'));
    const found = (identity: string): void => attempts.found(identity);
    dialPort(options, this.port, found, abandoned.signal).then(
      (socket) => {
        if (!handle.live) {
          socket.destroy();
          return;
        }
        this.connection = this.serve(socket);
        handle.goto('connected');
      },
      (err: unknown) => {
        if (!handle.live) {
          return;
        }
        if (codeOf(err) === OTHER_ZONE) {
          stats.refused('peer', { path: this.path, why: messageOf(err) });
        }
        attempts.failed(err, this.path);
        handle.goto('waiting');
      },
    );
  }

  private serve(socket: Socket): PortConnection {
    const { context, stats } = this;
    const stream = new NetStream(socket, context.now);
    const origin = { zonename: this.options.zonename, peer: null };
    const connection = new PortConnection(stream, origin, context, {
      closed: () => {
        if (this.connection === connection) {
          this.disconnected();
        }
      },
      dropped: (bytes) => stats.dropped(bytes),
    });
    return connection;
  }

  private enterConnected(handle: Handled): void {
    const { stats, connection } = this;
    stats.opened();
    handle.timeout(BUSY_MS, () => stats.settle());
    handle.leaving(() => {
      // When the link stops, requests that were read are answered first.
      if (this.connection !== null && this.graceMs === null) {
        this.connection = null;
        connection?.destroy();
        stats.closed();
      }
    });
  }

  /** The connection ended by itself, or since the link stops. */
  private disconnected(): void {
    const { attempts, stats } = this;
    const wasBusy = !stats.settled;
    this.connection = null;
    stats.closed();
    if (this.state === 'stopping') {
      this.machine.goto('stopped');
      return;
    }
    if (wasBusy) {
      stats.held();
      attempts.busy(this.path);
    } else {
      attempts.reset();
    }
    this.machine.goto('waiting');
  }

  private enterStopping(handle: Handled): void {
    handle.timeout(this.graceMs ?? 0, () => this.connection?.destroy());
    // Requests that were sent already are still answered, and what was closed just now has its descriptor closed.
    void afterPolling().then(() => {
      if (this.connection === null) {
        handle.goto('stopped');
      } else {
        this.connection.finish();
      }
    });
  }
}
