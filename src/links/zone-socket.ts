/*
 * The link of an OS zone: a unix socket in a folder that the zone sees as its /.zonecontrol.
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
 * What requests mean, and who a peer may be, it is told by whoever makes it.
 */
import assert from 'node:assert';
import { dirname } from 'node:path';
import { Fsm } from '../fsm';
import type { StateHandle, StateRecord } from '../fsm';
import type { PeerCredential } from '../sys/ffi';
import { listenUnix } from '../sys/sockets';
import type { Listener } from '../sys/sockets';
import { watchFolder } from './folder-watch';
import type { LinkLimits } from './limits';
import type { Handle, Link, LinkObserver } from './link';
import { Rarely } from './rarely';
import type { Voice } from './rarely';
import { Reception } from './reception';
import { Share } from './share';
import { isStill, listenAt, removeSocketFile } from './socket-file';
import type { FileIdentity } from './socket-file';
import type { Sweep } from './sweep';
import { Lane } from './turns';
import type { Turns } from './turns';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5000;
/**
 * What removed the file may still be at work: the brand's uninstall takes the whole folder away, just
 * before the zone is deleted, and must not find a new socket in it. Clients miss the file for 2 s at most.
 */
const SETTLE_MS = 400;
/** Who removes our file again so soon fights with us over it: then we take our time. */
const CONTESTED_MS = 1000;

export type ZoneSocketState = 'new' | 'binding' | 'listening' | 'waiting' | 'stopping' | 'stopped';

export interface ZoneSocketOptions {
  readonly zonename: string;
  /** Host path of the socket; its folder is made where needed. */
  readonly path: string;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly limits: LinkLimits;
  /** One for the whole process. */
  readonly turns: Turns;
  /** One for the whole process. */
  readonly sweep: Sweep;
  readonly log: Voice;
  /** May throw a WorldError: then the connection is refused. */
  readonly peerOf: (fd: number) => PeerCredential;
  readonly allowed: (peer: PeerCredential) => boolean;
  readonly now?: () => number;
}

export class ZoneSocket implements Link {
  readonly path: string;
  private readonly options: ZoneSocketOptions;
  private readonly machine: Fsm<ZoneSocketState>;
  private readonly faults: Rarely;
  private readonly reception: Reception;
  private readonly now: () => number;
  private listener: Listener | null = null;
  private identity: FileIdentity | null = null;
  private attempt: Promise<void> = Promise.resolve();
  private retryMs = FIRST_RETRY_MS;
  private contested = false;
  private firstTry: () => void = () => undefined;
  private stopped: Promise<void> | null = null;

  constructor(options: ZoneSocketOptions) {
    const now = options.now ?? (() => performance.now());
    this.options = options;
    this.path = options.path;
    this.now = now;
    this.faults = new Rarely(options.log, now);
    const { zonename, handle, observer, limits, turns, sweep, peerOf, allowed } = options;
    const lane = new Lane();
    const share = new Share(limits);
    this.reception = new Reception({
      zonename,
      context: { channel: 'socket', handle, observer, limits, turns, lane, share, now },
      sweep,
      peerOf,
      allowed,
    });
    this.machine = new Fsm<ZoneSocketState>(
      `zone socket ${options.zonename}`,
      {
        new: { next: ['binding', 'stopping'], enter: () => undefined },
        binding: { next: ['listening', 'waiting', 'stopping'], enter: (h) => this.enterBinding(h) },
        listening: {
          next: ['waiting', 'stopping'],
          enter: (h) => this.enterListening(h),
        },
        waiting: { next: ['binding', 'stopping'], enter: (h) => this.enterWaiting(h) },
        stopping: { next: ['stopped'], enter: () => undefined },
        stopped: { next: [], enter: () => undefined },
      },
      'new',
    );
    this.machine.start();
  }

  get state(): ZoneSocketState {
    return this.machine.state;
  }

  get connections(): number {
    return this.reception.size;
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
    return new Promise((resolve) => {
      this.firstTry = resolve;
      this.machine.goto('binding');
    });
  }

  stop(graceMs: number): Promise<void> {
    this.stopped ??= this.end(graceMs);
    return this.stopped;
  }

  /** After `stop`: takes the socket and the empty folder away, where they are ours. */
  remove(): void {
    assert(this.state === 'stopped', 'a zone socket is removed when it is stopped');
    if (this.identity === null) {
      return;
    }
    try {
      removeSocketFile(this.identity, this.path);
    } catch (err) {
      this.faults.warn({ err, path: this.path }, 'could not remove the zone socket');
    }
    this.identity = null;
  }

  private enterBinding(handle: StateHandle<ZoneSocketState>): void {
    this.attempt = this.bind();
    handle.until(
      this.attempt,
      () => {
        if (!this.contested) {
          this.retryMs = FIRST_RETRY_MS;
        }
        handle.goto('listening');
        this.firstTry();
      },
      (err) => {
        this.faults.warn({ err, path: this.path }, 'could not make the zone socket');
        handle.goto('waiting');
        this.firstTry();
      },
    );
  }

  private enterListening(handle: StateHandle<ZoneSocketState>): void {
    const { sweep } = this.options;
    const listeningAt = this.now();
    let looking = false;
    let again = false;
    const look = (): void => {
      again = looking;
      if (looking || this.identity === null) {
        return;
      }
      looking = true;
      const done = (): void => {
        looking = false;
        if (again) {
          look();
        }
      };
      handle.until(
        isStill(this.identity, this.path),
        (still) => {
          if (!still) {
            this.contested = this.now() - listeningAt < CONTESTED_MS;
            this.retryMs = Math.max(this.retryMs, SETTLE_MS);
            handle.goto('waiting');
          }
          done();
        },
        (err) => {
          this.faults.warn({ err, path: this.path }, 'could not look at the zone socket');
          done();
        },
      );
    };
    const unwatched = (): void => handle.leaving(sweep.often(look));
    const watch = watchFolder(dirname(this.path), look, unwatched);
    if (watch === null) {
      unwatched();
    } else {
      handle.leaving(() => watch.close());
    }
    handle.leaving(sweep.seldom(look));
    // What happened before the watch was there.
    look();
  }

  private enterWaiting(handle: StateHandle<ZoneSocketState>): void {
    handle.timeout(this.retryMs, () => handle.goto('binding'));
    this.retryMs = Math.min(LAST_RETRY_MS, 2 * this.retryMs);
  }

  /** Puts a new socket in the place of whatever is there. The one before is closed after that. */
  private async bind(): Promise<void> {
    const { listener, identity } = await listenAt(this.path, (path) =>
      listenUnix(
        path,
        (stream) => this.reception.accept(stream),
        (err) => this.faults.warn({ err, path: this.path }, 'could not accept'),
      ),
    );
    const before = this.listener;
    this.listener = listener;
    this.identity = identity;
    before?.close();
  }

  private async end(graceMs: number): Promise<void> {
    this.machine.goto('stopping');
    // One that is being bound just now would outlive us; its failure has been told or tells nothing new.
    await this.attempt.catch(() => undefined);
    this.firstTry();
    this.listener?.close();
    this.listener = null;
    await this.reception.close(graceMs);
    this.machine.goto('stopped');
  }
}
