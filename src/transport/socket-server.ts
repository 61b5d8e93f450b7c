/*
 * The link of an OS zone: a unix socket in a directory that the zone sees as its /.zonecontrol, and its connections.
 *
 *     new --start, bound--> listening <--bound--+
 *      |                        |               |
 *      | failed                 | the file is gone, or another's
 *      |                        v               |
 *      +--------------------> waiting --retry---+
 *
 *     any of them --stop--> stopping --all closed--> stopped
 *
 * Made, started, stopped and removed by its zone; it lives as long as the zone is configured, whatever the zone does.
 * While a new socket is bound the old one still accepts, and connections outlive the socket that they were accepted by.
 * No error of the file system or of accept leaves this file. Most zones are silent: what serves connections is made when
 * the first one is accepted.
 */
import assert from 'node:assert';
import { dirname } from 'node:path';
import { Backoff } from '../lib/backoff';
import { codeOf, messageOf } from '../lib/errors';
import { Fsm } from '../lib/fsm';
import type { StateHandle, StateRecord, States } from '../lib/fsm';
import type { PeriodicTask, PeriodicTimer } from '../lib/periodic-timer';
import { afterPolling, oncePerIteration, RunQueue } from '../lib/scheduler';
import { ThrottledLog, type ThrottledLogSink } from '../log';
import type { PeerCredential } from '../platform/libzonecfg';
import { listenUnix, type Listener } from '../platform/sockets';
import type { Stream } from '../platform/stream';
import { Connection, type ConnectionContext } from './connection';
import { watchDirectory } from './directory-watch';
import type { Access, Link, Origin } from './link';
import { bindAt, isStill, removeSocketFile } from './socket-file';
import type { Bound, FileIdentity, SocketModes } from './socket-file';
import { ZoneQuota, type MemoryQuota } from './zone-quota';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5000;
/**
 * Whatever removed the file may not have finished: the brand's uninstall removes the whole directory, just before the
 * zone is deleted, and must not find a new socket in it. Clients miss the file for 2 s at most.
 */
const SETTLE_MS = 400;
/** A file that is removed again so soon is contested: then the waits grow. */
const CONTESTED_MS = 1000;

export type ZoneSocketState = 'new' | 'listening' | 'waiting' | 'stopping' | 'stopped';

/** The scheduler, the watches, the memory quota and the timer serve the whole process. */
export interface ZoneSocketOptions extends Pick<
  ConnectionContext,
  'handle' | 'observer' | 'limits' | 'scheduler' | 'watches'
> {
  readonly zonename: string;
  /** Host path of the socket; its directory is made where needed. */
  readonly path: string;
  readonly memory: MemoryQuota;
  readonly timer: PeriodicTimer;
  readonly log: ThrottledLogSink;
  /** May throw a SystemError: then the connection is refused. */
  readonly peerOf: (fd: number) => PeerCredential;
  /**
   * On illumos the mode of a socket file keeps nobody out (socksubr.c, so_ux_lookup): only programs of XPG4_2 or lx are
   * checked against it.
   */
  readonly accessOf: (peer: PeerCredential) => Access;
  readonly modes: SocketModes;
}

const clock = (): number => performance.now();

/** The link of one OS zone. */
export class ZoneSocket implements Link, PeriodicTask {
  private static readonly states: States<ZoneSocketState, ZoneSocket> = {
    new: { next: ['listening', 'waiting', 'stopping'], enter: () => undefined },
    listening: {
      next: ['waiting', 'stopping'],
      enter: (handle, socket) => socket.enterListening(handle),
    },
    waiting: {
      next: ['listening', 'waiting', 'stopping'],
      enter: (handle, socket) =>
        handle.timeout(socket.backoff.next(), () => handle.goto(socket.bind())),
    },
    stopping: { next: ['stopped'], enter: () => undefined },
    stopped: { next: [], enter: () => undefined },
  };

  readonly path: string;
  private readonly machine: Fsm<ZoneSocketState, ZoneSocket>;
  private errors: ThrottledLog | null = null;
  private losses: ThrottledLog | null = null;
  /** When the file was found missing. */
  private lostAt: number | null = null;
  private manager: ConnectionManager | null = null;
  private bound: Bound<Listener> | null = null;
  private listeningAt = 0;
  private readonly backoff = new Backoff(FIRST_RETRY_MS, LAST_RETRY_MS);
  /** The file was lost too soon: that it can be bound again is no success. */
  private contested = false;
  private stopped: Promise<void> | null = null;

  constructor(private readonly options: ZoneSocketOptions) {
    const { zonename, path } = options;
    this.path = path;
    this.machine = new Fsm<ZoneSocketState, ZoneSocket>(zonename, ZoneSocket.states, 'new', this);
    this.machine.start();
  }

  get state(): ZoneSocketState {
    return this.machine.state;
  }

  get connections(): number {
    return this.manager?.open.size ?? 0;
  }

  /** The file that it listens at, null before the first. */
  get file(): FileIdentity | null {
    return this.bound?.identity ?? null;
  }

  history(): readonly StateRecord<ZoneSocketState>[] {
    return this.machine.history();
  }

  /** It listens when this returns, or binding failed; then it retries by itself. */
  start(): Promise<void> {
    assert(this.state === 'new', 'a zone socket is started once');
    this.machine.goto(this.bind());
    return Promise.resolve();
  }

  stop(graceMs: number): Promise<void> {
    this.stopped ??= this.end(graceMs);
    return this.stopped;
  }

  /** After `stop`: removes the socket and the empty directory, where they are ours. */
  remove(): void {
    assert(this.state === 'stopped', 'a zone socket is removed when it is stopped');
    if (this.bound === null) {
      return;
    }
    try {
      removeSocketFile(this.bound.identity, this.path);
    } catch (err) {
      this.warn(err, 'cannot remove the zone socket');
    }
    this.bound = null;
  }

  /** Binds again when the file is gone, or is not ours. Called after changes in the directory, and every minute. */
  check(): void {
    if (this.state !== 'listening' || this.bound === null) {
      return;
    }
    try {
      if (!isStill(this.bound.identity, this.path)) {
        this.contested = performance.now() - this.listeningAt < CONTESTED_MS;
        if (!this.contested) {
          this.backoff.reset();
        }
        this.backoff.atLeast(SETTLE_MS);
        this.lostAt = performance.now();
        this.machine.goto('waiting');
      }
    } catch (err) {
      this.warn(err, 'cannot stat the zone socket');
    }
  }

  private enterListening(handle: StateHandle<ZoneSocketState>): void {
    const { timer, log } = this.options;
    this.listeningAt = performance.now();
    if (this.lostAt !== null) {
      // Logged only now that it is there again: a zone that is deleted loses its directory before its event.
      const away_ms = Math.round(this.listeningAt - this.lostAt);
      this.lostAt = null;
      this.losses ??= new ThrottledLog(log, clock);
      const fields = { path: this.path, away_ms };
      this.losses.warn(fields, 'zone socket was removed or replaced; created it again');
    }
    const check = (): void => this.check();
    const unwatched = (): void => {
      if (handle.live) {
        handle.leaving(timer.everySecond(check));
      }
    };
    const watch = watchDirectory(dirname(this.path), timer, check, unwatched);
    if (watch === null) {
      unwatched();
    }
    timer.everyMinute(this);
    handle.leaving(() => {
      watch?.close();
      timer.remove(this);
    });
    // Changes before the watch was there.
    oncePerIteration(check)();
  }

  /** Replaces whatever is at the path by a new socket. The one before is closed after that. */
  private bind(): 'listening' | 'waiting' {
    const before = this.bound;
    const accept = (stream: Stream): void => {
      this.manager ??= new ConnectionManager(this.options);
      this.manager.accept(stream);
    };
    const failed = (err: unknown): void => this.warn(err, 'cannot accept a connection');
    const listen = (path: string): Listener => listenUnix(path, accept, failed);
    try {
      this.bound = bindAt(this.path, listen, this.options.modes);
    } catch (err) {
      this.warn(err, 'cannot create the zone socket');
      return 'waiting';
    }
    if (before !== null) {
      void closeListener(before.listener);
    }
    if (!this.contested) {
      this.backoff.reset();
    }
    return 'listening';
  }

  private async end(graceMs: number): Promise<void> {
    this.machine.goto('stopping');
    if (this.bound !== null) {
      // Those before it are closed by then.
      await closeListener(this.bound.listener);
    }
    await this.manager?.close(graceMs);
    this.machine.goto('stopped');
  }

  private warn(err: unknown, msg: string): void {
    this.errors ??= new ThrottledLog(this.options.log, clock);
    this.errors.warn({ err, path: this.path }, msg);
  }
}

/** Clients that connected while the file was this listener's are accepted by it first. */
async function closeListener(listener: Listener): Promise<void> {
  await afterPolling();
  listener.close();
}

/** The connections of one zone socket, whichever of its listeners accepted them. Closed once. */
class ConnectionManager {
  readonly open = new Set<Connection>();
  private readonly context: ConnectionContext;
  private closed = false;
  private stopChecks: (() => void) | null = null;
  private onEmpty: () => void = () => undefined;

  constructor(private readonly options: ZoneSocketOptions) {
    const { handle, observer, limits, scheduler, watches, memory } = options;
    const quota = new ZoneQuota(limits, memory);
    const queue = new RunQueue();
    this.context = { handle, observer, limits, scheduler, queue, quota, watches, now: clock };
  }

  accept(stream: Stream): void {
    const { observer, timer } = this.options;
    const origin = this.closed ? null : this.identify(stream);
    if (origin === null) {
      stream.destroy();
      return;
    }
    const connection = new Connection(stream, origin, this.context, () => {
      this.open.delete(connection);
      observer.closed();
      if (this.open.size === 0) {
        this.stopChecks?.();
        this.stopChecks = null;
        this.onEmpty();
      }
    });
    this.open.add(connection);
    this.stopChecks ??= timer.everySecond(() => {
      this.open.forEach((one) => one.checkIdle());
    });
    observer.opened();
  }

  /**
   * Accepts nothing more. Open connections get the replies to what they asked, for `graceMs` at most.
   * Resolves when all are closed. Called once.
   */
  async close(graceMs: number): Promise<void> {
    this.closed = true;
    if (this.open.size === 0) {
      return;
    }
    // Requests that were sent already are still answered.
    await afterPolling();
    const empty = new Promise<void>((resolve) => {
      this.onEmpty = resolve;
    });
    this.open.forEach((connection) => connection.finish());
    const timer = setTimeout(() => {
      this.open.forEach((connection) => connection.destroy());
    }, graceMs);
    if (this.open.size > 0) {
      await empty;
    }
    clearTimeout(timer);
  }

  /** Where a connection comes from; null when it may not come. */
  private identify({ fd }: Stream): Origin | null {
    const { zonename, peerOf, accessOf, observer, limits } = this.options;
    if (this.open.size >= limits.connections) {
      observer.refused('connections', { limit: limits.connections });
      return null;
    }
    if (fd === undefined) {
      return null;
    }
    try {
      const peer = peerOf(fd);
      const access = accessOf(peer);
      if (access === 'all' || access === 'read') {
        return { zonename, peer, readOnly: access === 'read' };
      }
      const { zoneid, pid, uid } = peer;
      observer.refused(access, { zoneid, pid, uid });
    } catch (err) {
      // A peer that is gone again has no credential.
      observer.refused('peer', { code: codeOf(err), reason: messageOf(err) });
    }
    return null;
  }
}
