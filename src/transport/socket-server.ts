/*
 * The link of an OS zone: a unix socket in a directory that the zone sees as its /.zonecontrol.
 *
 *     new --start--> binding --listens--> listening
 *                     |   ^                   |
 *              failed |   | retry             | the file is gone, or another's
 *                     v   |                   |
 *                    waiting <----------------+
 *
 *     any of them --stop--> stopping --all closed--> stopped
 *
 * Made, started, stopped and removed by its zone. It lives as long as the zone is configured, whatever
 * the zone does. What always holds: while a new socket is being bound the old one goes on; connections
 * outlive the socket that they came in by; no fault of the file system or of accept leaves this file.
 * Most zones of a node are silent: what serves connections is made when the first one comes in.
 * What requests mean, and who a peer may be, it is told by whoever makes it.
 */
import assert from 'node:assert';
import { dirname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Fsm } from '../lib/fsm';
import type { StateHandle, StateRecord, States } from '../lib/fsm';
import type { PeerCredential } from '../platform/libzonecfg';
import { listenUnix } from '../platform/sockets';
import type { Listener } from '../platform/sockets';
import type { Stream } from '../platform/stream';
import { watchDirectory } from './directory-watch';
import type { DirectoryWatch } from './directory-watch';
import type { LinkLimits } from './limits';
import type { Access, Handle, Link, LinkObserver } from './link';
import { ThrottledLog } from '../lib/throttled-log';
import type { ThrottledLogSink } from '../lib/throttled-log';
import { ConnectionManager } from './connection-manager';
import type { Watches } from './watches';
import { ZoneQuota, type MemoryQuota } from './zone-quota';
import { bindAt, isStill, removeSocketFile, ROOT_ONLY } from './socket-file';
import type { FileIdentity, SocketModes } from './socket-file';
import type { PeriodicTimer, PeriodicTask } from './periodic-timer';
import { RunQueue } from '../lib/scheduler';
import type { Scheduler } from '../lib/scheduler';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5000;
/**
 * What removed the file may still be at work: the brand's uninstall takes the whole directory away, just
 * before the zone is deleted, and must not find a new socket in it. Clients miss the file for 2 s at most.
 */
const SETTLE_MS = 400;
/** Who removes our file again so soon fights with us over it: then we take our time. */
const CONTESTED_MS = 1000;

export type ZoneSocketState = 'new' | 'binding' | 'listening' | 'waiting' | 'stopping' | 'stopped';

export interface ZoneSocketOptions {
  readonly zonename: string;
  /** Host path of the socket; its directory is made where needed. */
  readonly path: string;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  /** One for the whole process. */
  readonly turns: Scheduler;
  readonly watches: Watches;
  /** One for the whole process; its own when it is left out. */
  readonly memory?: MemoryQuota;
  /** One for the whole process. */
  readonly sweep: PeriodicTimer;
  readonly log: ThrottledLogSink;
  /** May throw a SystemError: then the connection is refused. */
  readonly peerOf: (fd: number) => PeerCredential;
  readonly allowed: (peer: PeerCredential) => boolean;
  /** Left out: whoever is allowed in may do all. */
  readonly accessOf?: (peer: PeerCredential) => Access;
  /** Left out: root's alone. */
  readonly modes?: SocketModes;
  readonly now?: () => number;
}

const clock = (): number => performance.now();

/** The link of one OS zone. Started once, at the zone's first sight; `stop` ends it for good. */
export class ZoneSocket implements Link, PeriodicTask {
  private static readonly states: States<ZoneSocketState, ZoneSocket> = {
    new: { next: ['binding', 'stopping'], enter: () => undefined },
    binding: {
      next: ['listening', 'waiting', 'stopping'],
      enter: (handle, socket) => socket.enterBinding(handle),
    },
    listening: {
      next: ['waiting', 'stopping'],
      enter: (handle, socket) => socket.enterListening(handle),
    },
    waiting: {
      next: ['binding', 'stopping'],
      enter: (handle, socket) => socket.enterWaiting(handle),
    },
    stopping: { next: ['stopped'], enter: () => undefined },
    stopped: { next: [], enter: () => undefined },
  };

  readonly path: string;
  private readonly options: ZoneSocketOptions;
  private readonly machine: Fsm<ZoneSocketState, ZoneSocket>;
  private readonly now: () => number;
  private faults: ThrottledLog | null = null;
  private losses: ThrottledLog | null = null;
  /** When the file was found lost; null while it is there. */
  private lostAt: number | null = null;
  private reception: ConnectionManager | null = null;
  private listener: Listener | null = null;
  private identity: FileIdentity | null = null;
  private watch: DirectoryWatch | null = null;
  private unwatch: (() => void) | null = null;
  /** Resolves when the listeners that were replaced are closed. */
  private replaced: Promise<void> | null = null;
  private listeningAt = 0;
  private retryMs = FIRST_RETRY_MS;
  private contested = false;
  private stopped: Promise<void> | null = null;

  constructor(options: ZoneSocketOptions) {
    this.options = options;
    this.path = options.path;
    this.now = options.now ?? clock;
    this.machine = new Fsm<ZoneSocketState, ZoneSocket>(
      options.zonename,
      ZoneSocket.states,
      'new',
      this,
    );
    this.machine.start();
  }

  get state(): ZoneSocketState {
    return this.machine.state;
  }

  get connections(): number {
    return this.reception?.size ?? 0;
  }

  /** The file that it listens at, null before the first. */
  get file(): FileIdentity | null {
    return this.identity;
  }

  history(): readonly StateRecord<ZoneSocketState>[] {
    return this.machine.history();
  }

  /** Resolves when it listens, or when the first try failed; then it goes on trying by itself. */
  start(): Promise<void> {
    assert(this.state === 'new', 'a zone socket is started once');
    this.machine.goto('binding');
    return Promise.resolve();
  }

  stop(graceMs: number): Promise<void> {
    this.stopped ??= this.end(graceMs);
    return this.stopped;
  }

  /** After `stop`: takes the socket and the empty directory away, where they are ours. */
  remove(): void {
    assert(this.state === 'stopped', 'a zone socket is removed when it is stopped');
    if (this.identity === null) {
      return;
    }
    try {
      removeSocketFile(this.identity, this.path);
    } catch (err) {
      this.warn(err, 'could not remove the zone socket');
    }
    this.identity = null;
  }

  /** Something happened in the directory, or nothing did for long: is the file still there, and ours? */
  look(): void {
    if (this.state !== 'listening' || this.identity === null) {
      return;
    }
    try {
      if (!isStill(this.identity, this.path)) {
        this.contested = this.now() - this.listeningAt < CONTESTED_MS;
        this.retryMs = Math.max(this.retryMs, SETTLE_MS);
        this.lostAt ??= this.now();
        this.machine.goto('waiting');
      }
    } catch (err) {
      this.warn(err, 'could not look at the zone socket');
    }
  }

  private enterBinding(handle: StateHandle<ZoneSocketState>): void {
    try {
      this.bind();
    } catch (err) {
      this.warn(err, 'could not make the zone socket');
      handle.goto('waiting');
      return;
    }
    if (!this.contested) {
      this.retryMs = FIRST_RETRY_MS;
    }
    handle.goto('listening');
  }

  private enterListening(handle: StateHandle<ZoneSocketState>): void {
    const { sweep } = this.options;
    this.listeningAt = this.now();
    this.tellLoss();
    handle.leaving(() => {
      this.watch?.close();
      this.watch = null;
      this.unwatch?.();
      this.unwatch = null;
      sweep.leave(this);
    });
    const look = (): void => this.look();
    const unwatched = (): void => {
      this.watch = null;
      this.unwatch = sweep.often(look);
    };
    this.watch = watchDirectory(dirname(this.path), look, unwatched);
    if (this.watch === null) {
      unwatched();
    }
    sweep.seldom(this);
    // What happened before the watch was there.
    setImmediate(look);
  }

  private enterWaiting(handle: StateHandle<ZoneSocketState>): void {
    handle.timeout(this.retryMs, () => handle.goto('binding'));
    this.retryMs = Math.min(LAST_RETRY_MS, 2 * this.retryMs);
  }

  /** Puts a new socket in the place of whatever is there. The one before is closed after that. */
  private bind(): void {
    const { listener, identity } = bindAt(
      this.path,
      (path) =>
        listenUnix(
          path,
          (stream) => this.accept(stream),
          (err) => this.warn(err, 'could not accept'),
        ),
      this.options.modes ?? ROOT_ONLY,
    );
    const before = this.listener;
    this.listener = listener;
    this.identity = identity;
    if (before !== null) {
      this.replaced = closeHeard(before);
    }
  }

  private accept(stream: Stream): void {
    this.reception ??= this.makeReception();
    this.reception.accept(stream);
  }

  private makeReception(): ConnectionManager {
    const { zonename, handle, observer, limits, turns, memory, sweep, watches } = this.options;
    const { peerOf, allowed, accessOf } = this.options;
    const context = {
      channel: 'socket',
      ...{ handle, observer, limits, scheduler: turns, watches, now: this.now },
      queue: new RunQueue(),
      quota: new ZoneQuota(limits, memory),
    } as const;
    return new ConnectionManager({
      ...{ zonename, context, sweep, peerOf, allowed },
      ...(accessOf === undefined ? {} : { accessOf }),
    });
  }

  private async end(graceMs: number): Promise<void> {
    this.machine.goto('stopping');
    await this.replaced;
    await closeHeard(this.listener);
    this.listener = null;
    await this.reception?.close(graceMs);
    this.machine.goto('stopped');
  }

  /** Only now that it is there again: a zone that is deleted loses its directory before we hear of it. */
  private tellLoss(): void {
    if (this.lostAt !== null) {
      const away = Math.round(this.now() - this.lostAt);
      this.lostAt = null;
      this.losses ??= new ThrottledLog(this.options.log, this.now);
      const fields = { path: this.path, away_ms: away };
      this.losses.warn(fields, 'the zone socket was removed or replaced, and is made anew');
    }
  }

  private warn(err: unknown, msg: string): void {
    this.faults ??= new ThrottledLog(this.options.log, this.now);
    this.faults.warn({ err, path: this.path }, msg);
  }
}

/** Who connected while the file was the listener's is accepted by it first: another's may be there by now. */
async function closeHeard(listener: Listener | null): Promise<void> {
  if (listener !== null) {
    await nextTurn();
    await nextTurn();
    listener.close();
  }
}
