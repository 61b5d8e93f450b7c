/*
 * How a hypervisor's port is reached: where it is, one dial, what the dials so far tell, and how many begin.
 *
 * A port's file lies below the zone's root, where only platform/zone-root.ts goes. That walks to it without
 * following links and makes sure that what answered is what it found. It cannot see a mount that came and
 * went between; so who answered is asked here: getpeerucred on our end names the zone of the process that
 * listens (on illumos tl.c, tl_conn_req, puts the listener's credentials into the confirmation, and
 * sockstr.c, strsock_proto, keeps them for it). Another zone's port is never served.
 *
 * Used by serial links, each of which dials again as it sees fit.
 */
import type { Socket } from 'node:net';
import { Backoff } from '../lib/backoff';
import { SystemError, codeOf, systemError } from '../lib/errors';
import { ThrottledLog } from '../lib/throttled-log';
import type { ThrottledLogSink } from '../lib/throttled-log';
import type { ZoneRoot } from '../platform/zone-root';
import { fdOf } from './net-stream';

/** What the platform gives bhyve when the VM says nothing; qemu's is the same, always. */
export const DEFAULT_PORT = '/tmp/vm.ttyb';

/** The code of a dial that was answered by another zone's process. */
export const OTHER_ZONE = 'EOTHERZONE';

/** What connect says of a hypervisor that is not there yet, is busy, or was just replaced. */
const NOT_YET = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'ECANCELED', 'EAGAIN', 'ESTALE'];

/**
 * The port's path inside the zone by the VM's `com2`.
 * @returns null when the VM has no metadata channel: a device, or options that we do not know
 */
export function portOf(com2: unknown): string | null {
  if (com2 === undefined || com2 === null) {
    return DEFAULT_PORT;
  }
  const path = typeof com2 === 'string' ? /^socket,(\/[^,\0]+)$/.exec(com2)?.[1] : undefined;
  const names = (path ?? '').split('/').filter((name) => name !== '');
  if (path === undefined || names.length === 0 || names.some((n) => n === '.' || n === '..')) {
    return null;
  }
  return path;
}

/** The zone of the process that listens at the other end of a socket. */
export type ZoneOfPeer = (fd: number) => string;

export interface Dial {
  /**
   * A socket that is paused; whoever takes it lets it flow. Rejects with a SystemError: what zone-root.ts
   * tells, or OTHER_ZONE. After `cancel` it rejects.
   */
  readonly done: Promise<Socket>;
  /** Closes what was opened, or is still to be. Idempotent. */
  cancel(): void;
}

/** Where a dial goes to. */
export interface Target {
  readonly zonename: string;
  readonly root: ZoneRoot;
  /** Path inside the zone. */
  readonly port: string;
  readonly zoneOfPeer: ZoneOfPeer;
}

/**
 * Dials once. At most as long as the zone's file systems take: whoever has no more time cancels it.
 * @param found is told which file it went to, whether somebody answered or not
 */
export function dialPort(target: Target, found: (identity: string) => void): Dial {
  const { zonename, root, port, zoneOfPeer } = target;
  const cancelled = new AbortController();
  const { signal } = cancelled;
  const dial = async (): Promise<Socket> => {
    const { identity, outcome } = await root.dial(port, signal);
    if (identity !== '') {
      found(identity);
    }
    if (outcome instanceof SystemError) {
      throw outcome;
    }
    const path = root.nameOf(port);
    try {
      signal.throwIfAborted();
      const peerZone = zoneOfPeer(fdOf(outcome) ?? -1);
      if (peerZone !== zonename) {
        throw new SystemError('connect', path, OTHER_ZONE, `zone ${peerZone} answered`);
      }
    } catch (err) {
      outcome.destroy();
      throw systemError('connect', path, err);
    }
    signal.addEventListener('abort', () => outcome.destroy());
    return outcome;
  };
  return { done: dial(), cancel: () => cancelled.abort() };
}

/**
 * What came of the last dial:
 *
 *   not yet       nobody there, or just gone: soon again
 *   turned down   held by another, or what must not be there: slowly from the start
 *   our own       we gave up a connection just now, which its hypervisor may still see in the way of the next
 */
type LastDial = 'not yet' | 'turned down' | 'our own';

/** What is known of one VM's port, and so how long its link waits. Times are ms; touches no file. */
export class DialAttempts {
  /** Which file the last dial went to; '' before the first. */
  identity = '';
  private readonly now: () => number;
  private readonly faults: ThrottledLog;
  private readonly holders: ThrottledLog;
  /** Of its own: no other fault hides it. */
  private readonly attacks: ThrottledLog;
  private readonly backoff = new Backoff();
  private begunAt = -Infinity;
  private last: LastDial = 'not yet';
  /** The file at which the last connection ended at once, without a byte. */
  private heldFile = '';

  /** @param now a clock in ms that never goes back */
  constructor(log: ThrottledLogSink, now: () => number) {
    this.now = now;
    this.faults = new ThrottledLog(log, now);
    this.holders = new ThrottledLog(log, now);
    this.attacks = new ThrottledLog(log, now);
  }

  /** The zone begins to run: whatever was in its way before is over. */
  startOver(): void {
    this.last = 'not yet';
    this.quicken();
  }

  /** There is new reason to believe that the port comes soon. */
  quicken(): void {
    this.backoff.quicken(this.now());
  }

  /** How long the next dial must wait after the last one, ms: never more than ten a second. */
  restMs(): number {
    return Backoff.rest(this.begunAt, this.now());
  }

  begun(): void {
    this.begunAt = this.now();
  }

  /** The dial went to this file. */
  met(identity: string): void {
    if (identity !== this.identity) {
      this.identity = identity;
      // A new file is a new process: it has its own ten seconds.
      this.quicken();
    }
  }

  /** There is no connection. */
  failed(err: unknown, path: string): void {
    const code = codeOf(err);
    this.last = code === 'ESTALE' ? 'our own' : NOT_YET.includes(code) ? 'not yet' : 'turned down';
    if (code === OTHER_ZONE) {
      this.attacks.warn({ err, path }, 'ATTACK: another zone answered at the port of the VM');
    } else if (this.last === 'turned down') {
      this.faults.warn({ err, path }, 'could not use the port of the VM');
    }
  }

  /** A connection ended that was one: the next comes as soon as it can. */
  lost(): void {
    this.last = 'not yet';
    this.heldFile = '';
    this.quicken();
  }

  /** A connection ended at once, without a byte. */
  heldByAnother(path: string): void {
    if (this.last === 'our own') {
      this.lost();
      return;
    }
    this.last = 'turned down';
    // Once may be a guest that reboots at once: then the next dial meets another file.
    if (this.heldFile === this.identity) {
      this.holders.warn({ path }, 'another program holds the port of the VM');
    }
    this.heldFile = this.identity;
  }

  /** How long to wait now, ms; longer than `Backoff.QUICK_MS` where it is worth to watch the file. */
  waitMs(): number {
    return this.last === 'turned down' ? this.backoff.nextSlow() : this.backoff.next(this.now());
  }
}

/** How long a turn of the event loop may begin dials: some tens, which each cause work in later turns. */
const TURN_MS = 1;

/**
 * Lets many begin to dial at the same moment, and only a few of them in each turn of the event loop: when
 * all guests of a node reboot together, zones that ask meanwhile do not wait for all. One serves the process.
 */
export class DialLimiter {
  private readonly waiting = new Set<() => void>();
  private readonly now: () => number;
  private scheduled = false;

  /** @param now a clock in ms that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /**
   * Calls `work` once, soon, first come, first served.
   * @returns takes it back; harmless when it is too late
   */
  enter(work: () => void): () => void {
    // Its own entry, however often the same function comes.
    const entry = (): void => work();
    this.waiting.add(entry);
    this.schedule();
    return () => this.waiting.delete(entry);
  }

  private schedule(): void {
    if (!this.scheduled && this.waiting.size > 0) {
      this.scheduled = true;
      setImmediate(() => this.pass());
    }
  }

  private pass(): void {
    this.scheduled = false;
    const end = this.now() + TURN_MS;
    for (const entry of this.waiting) {
      this.waiting.delete(entry);
      entry();
      if (this.now() >= end) {
        break;
      }
    }
    this.schedule();
  }
}
