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
 * Made and told by its zone; what it must know of the VM it asks for when the zone runs. What always
 * holds: no try before the VM's data is loaded, none while the zone does not run, at most one at a time
 * and ten a second. A close is answered by a new try, whatever events come before or after it; events
 * and changes of the port's file only shorten a wait. Nothing is ever sent unasked.
 */
import assert from 'node:assert';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { codeOf } from '../errors';
import { Fsm } from '../fsm';
import type { StateHandle, StateRecord } from '../fsm';
import { Connection } from './connection';
import type { ConnectionContext } from './connection';
import type { LinkLimits } from './limits';
import type { Handle, Link, LinkObserver } from './link';
import { Pace } from './pace';
import { dialPort } from './port-dial';
import { portOf } from './port-file';
import { watchPort } from './port-watch';
import { Rarely } from './rarely';
import type { Voice } from './rarely';
import { SerialTally } from './serial-tally';
import type { SerialCounts } from './serial-tally';
import { Share } from './share';
import { Lane } from './turns';
import type { Turns } from './turns';

/** How often the VM's data is asked for again. Each answer may take seconds itself. */
const LOAD_RETRY_MS = 250;
/** After a reboot was told: how long a new process may take to make its port. */
const REBOOT_MS = 10_000;
/** A port that ends a connection so soon, without an octet, is held by another. */
const HELD_MS = 1000;
/** What connect says of a hypervisor that is not there yet, is busy, or was just replaced. */
const NOT_YET = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EAGAIN', 'ESTALE'];

export type SerialState =
  'idle' | 'loading' | 'none' | 'connecting' | 'waiting' | 'connected' | 'stopping' | 'stopped';

/** What the VM's data says of the port. */
export interface PortFacts {
  /** The VM's `com2`, whatever it is. */
  readonly com2: unknown;
}

export interface SerialOptions {
  readonly zonename: string;
  /** Host path of the zone's root. */
  readonly zoneroot: string;
  /** Settles when the VM's data is loaded, or with undefined to be asked again. Never rejects. */
  readonly facts: () => Promise<PortFacts | undefined>;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  /** One for the whole process. */
  readonly turns: Turns;
  readonly log: Voice;
  readonly now?: () => number;
}

type Handled = StateHandle<SerialState>;

export class SerialLink implements Link {
  private readonly options: SerialOptions;
  private readonly context: ConnectionContext;
  private readonly machine: Fsm<SerialState>;
  private readonly faults: Rarely;
  private readonly tally: SerialTally;
  /** `running`, `stopped`, `rebooted` from the zone; `closed` from the connection. */
  private readonly signals = new EventEmitter();
  private readonly now: () => number;
  private readonly pace = new Pace();
  /** The port inside the zone, once the VM's data told it. */
  private port = '';
  private connection: Connection | null = null;
  private dialled: Socket | null = null;
  /** Which file the last try went to, and when. */
  private tried = '';
  private triedAt = -Infinity;
  /** The last try met somebody who did not want us, or what must not be there. */
  private turnedDown = false;
  /** The file at which the last connection ended at once, without an octet. */
  private heldFile = '';
  private graceMs = 0;
  private ending = false;
  private stopped: Promise<void> | null = null;

  constructor(options: SerialOptions) {
    const { handle, limits, turns, zonename } = options;
    this.options = options;
    this.now = options.now ?? (() => performance.now());
    this.faults = new Rarely(options.log, this.now);
    this.tally = new SerialTally(options.observer, this.now);
    this.context = {
      channel: 'serial',
      handle,
      observer: this.tally,
      limits,
      turns,
      lane: new Lane(),
      share: new Share(limits),
      now: this.now,
    };
    this.machine = new Fsm<SerialState>(`serial link ${zonename}`, this.states(), 'idle');
    this.machine.start();
  }

  get state(): SerialState {
    return this.machine.state;
  }

  /** Host path of the port; of the usual one as long as the VM's data told no other. */
  get path(): string {
    return join(this.options.zoneroot, this.port === '' ? '/tmp/vm.ttyb' : this.port);
  }

  get connections(): number {
    return this.connection === null ? 0 : 1;
  }

  get counts(): SerialCounts {
    return this.tally.counts(this.connection?.dropped ?? 0);
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
      this.signals.once('ended', resolve);
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
            this.tally.running();
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
        this.port = port ?? '';
        this.turnedDown = false;
        this.pace.quicken(this.now());
        handle.goto(port === null ? 'none' : 'connecting');
      },
      (err) => {
        this.faults.warn({ err }, 'could not learn the port of the VM');
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
    handle.on(this.signals, 'rebooted', () => this.pace.quicken(this.now()));
    handle.timeout(Pace.rest(this.triedAt, this.now()), () => {
      this.triedAt = this.now();
      this.tally.tried();
      const dial = dialPort(this.options.zoneroot, this.port, ({ identity }) => {
        this.met(identity);
      });
      handle.leaving(() => {
        if (this.dialled === null) {
          dial.cancel();
        }
      });
      handle.until(
        dial.done,
        ({ socket }) => {
          this.dialled = socket;
          handle.goto('connected');
        },
        (err) => {
          this.turnedDown = !NOT_YET.includes(codeOf(err));
          if (this.turnedDown) {
            this.faults.warn({ err, path: this.path }, 'could not use the port of the VM');
          }
          handle.goto('waiting');
        },
      );
    });
  }

  private enterWaiting(handle: Handled): void {
    this.idleWhenStopped(handle);
    const quick = (): void => {
      this.pace.quicken(this.now());
      handle.goto('connecting');
    };
    handle.on(this.signals, 'rebooted', quick);
    handle.on(this.signals, 'running', quick);
    const wait = this.turnedDown ? this.pace.nextSlow() : this.pace.next(this.now());
    handle.timeout(wait, () => handle.goto('connecting'));
    if (wait > Pace.QUICK_MS) {
      handle.leaving(watchPort(this.options.zoneroot, this.port, this.tried, quick));
    }
  }

  private enterConnected(handle: Handled): void {
    const socket = this.dialled;
    this.dialled = null;
    assert(socket !== null, 'connected without a socket');
    const since = this.now();
    const connection = new Connection(
      socket,
      { zonename: this.options.zonename, peer: null },
      this.context,
      () => {
        this.tally.disconnected(connection.dropped);
        // One that the zone's end closed may be late: there can be another already.
        if (this.connection === connection) {
          this.connection = null;
          this.signals.emit('closed');
        }
      },
    );
    this.connection = connection;
    this.tally.connected();
    this.idleWhenStopped(handle);
    handle.on(this.signals, 'closed', () => {
      this.judge(connection.received === 0 && this.now() - since < HELD_MS);
      handle.goto('waiting');
    });
    handle.on(this.signals, 'rebooted', () => {
      // It may be the old process's, which is about to close it, or the new one's already: only where
      // the port's file is another one is it surely old.
      const end = watchPort(this.options.zoneroot, this.port, this.tried, () => {
        connection.destroy();
      });
      handle.leaving(end);
      handle.timeout(REBOOT_MS, end);
    });
    handle.leaving(() => {
      // Not when the agent stops: that state answers first what was asked.
      if (!this.ending) {
        connection.destroy();
      }
    });
  }

  private enterStopping(handle: Handled): void {
    const { connection } = this;
    if (connection === null) {
      handle.goto('stopped');
      return;
    }
    handle.on(this.signals, 'closed', () => handle.goto('stopped'));
    handle.timeout(this.graceMs, () => connection.destroy());
    // Once round the event loop, to hear what has been asked already.
    setImmediate(() => setImmediate(() => connection.finish()));
  }

  private idleWhenStopped(handle: Handled): void {
    handle.on(this.signals, 'stopped', () => handle.goto('idle'));
  }

  private met(identity: string): void {
    if (identity !== this.tried) {
      this.tried = identity;
      // A new file is a new process: it has its own ten seconds.
      this.pace.quicken(this.now());
    }
  }

  /** What the end of a connection means for the next try. */
  private judge(held: boolean): void {
    this.turnedDown = held;
    if (!held) {
      this.heldFile = '';
      this.pace.quicken(this.now());
      return;
    }
    this.tally.heldByAnother();
    // Once may be a guest that reboots at once: then the next try meets another file.
    if (this.heldFile === this.tried) {
      this.faults.warn({ path: this.path }, 'another program holds the port of the VM');
    }
    this.heldFile = this.tried;
  }
}
