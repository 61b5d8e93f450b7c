/*
 * How a hypervisor's port is reached: where it is, one dial, and how long a link waits between dials.
 *
 * A port's file lies below the zone's root, where only platform/zone-root.ts goes. That walks to it without following
 * links and makes sure that what answered is what it found. It cannot see a mount that came and went in between, so the
 * peer is checked here: getpeerucred on our end gives the zone of the process that listens (on illumos tl.c, tl_conn_req,
 * puts the listener's credentials into the confirmation, and sockstr.c, strsock_proto, keeps them for it).
 */
import type { Socket } from 'node:net';
import { Backoff } from '../lib/backoff';
import { SystemError, codeOf, systemError } from '../lib/errors';
import { TaskQueue } from '../lib/scheduler';
import { ThrottledLog, type ThrottledLogSink } from '../log';
import type { ZoneRoot } from '../platform/zone-root';
import { fdOf } from './net-stream';

/** What the platform gives bhyve when the VM says nothing; qemu's is the same, always. */
export const DEFAULT_PORT = '/tmp/vm.ttyb';

/** The code of a dial that was answered by another zone's process. */
export const OTHER_ZONE = 'EOTHERZONE';

/** Nobody listens, or not any more. */
const ABSENT: readonly string[] = ['ENOENT', 'ECONNREFUSED'];
/** Errors of a hypervisor that is not there yet, is busy, or was just replaced. */
const RETRYABLE: readonly string[] = [...ABSENT, 'ECONNRESET', 'ECANCELED', 'EAGAIN', 'ESTALE'];

/**
 * The port's path inside the zone by the VM's `com2`.
 * @returns null when the VM has no metadata channel: a device, or options that we do not know
 */
export function portOf(com2: unknown): string | null {
  if (com2 === undefined || com2 === null) {
    return DEFAULT_PORT;
  }
  const path = typeof com2 === 'string' ? /^socket,(\/[^,\0]+)$/.exec(com2)?.[1] : undefined;
  const names = path?.split('/').filter((name) => name !== '') ?? [];
  const isUsable = names.length > 0 && !names.some((name) => name === '.' || name === '..');
  return isUsable ? (path ?? null) : null;
}

export interface PortOwner {
  readonly zonename: string;
  readonly root: ZoneRoot;
  /** The zone of the process that listens at the other end of a socket. */
  readonly zoneOfPeer: (fd: number) => string;
}

/**
 * Dials once, for as long as the zone's file systems take, or until the signal: then it rejects, and nothing stays open.
 * @param port path inside the zone
 * @param found is called with the identity of the file that was found, whether somebody listens at it or not
 * @returns a paused socket. Rejects with a SystemError: that of zone-root.ts, or OTHER_ZONE
 */
export async function dialPort(
  { zonename, root, zoneOfPeer }: PortOwner,
  port: string,
  found: (identity: string) => void,
  signal: AbortSignal,
): Promise<Socket> {
  const socket = await root.dial(port, found, signal);
  const path = root.nameOf(port);
  try {
    signal.throwIfAborted();
    const peerZone = zoneOfPeer(fdOf(socket) ?? -1);
    if (peerZone !== zonename) {
      throw new SystemError('connect', path, OTHER_ZONE, `zone ${peerZone} answered`);
    }
  } catch (err) {
    socket.destroy();
    throw systemError('connect', path, err);
  }
  return socket;
}

/**
 * The dials of all links begin in it: when all guests of a node reboot together, zones that ask meanwhile do not wait
 * for all dials. 1 ms are some tens of them, which each cause work in later iterations.
 */
export const dialLimiter = new TaskQueue({ ms: 1 });

/** Between two dials: a booting guest needs its port at once. */
const FAST_MS = 100;
/** A booting hypervisor makes its port within this. */
const FAST_FOR_MS = 10_000;
/** Afterwards, while nobody listens. */
const ABSENT_MS = 250;
/** After a dial that was refused, and of those that fail otherwise after FAST_FOR_MS. */
const FIRST_SLOW_MS = 1000;
const LAST_SLOW_MS = 5000;

/** The dials of one VM's port, and how long its link waits between them. Times are ms; touches no file. */
export class DialAttempts {
  private readonly errors: ThrottledLog;
  private readonly conflicts: ThrottledLog;
  /** Throttled apart, so that no other error hides it. */
  private readonly attacks: ThrottledLog;
  private readonly slow = new Backoff(FIRST_SLOW_MS, LAST_SLOW_MS);
  private fastUntil = -Infinity;
  /** Why there is no connection; '' where that is not known yet. */
  private code = '';
  /** Of the file that the last dial found; '' before the first. */
  private identity = '';
  /** The file at which the last connection ended at once, without a byte. */
  private busyFile = '';

  /** @param now a clock in ms that never goes back */
  constructor(
    log: ThrottledLogSink,
    private readonly now: () => number,
  ) {
    this.errors = new ThrottledLog(log, now);
    this.conflicts = new ThrottledLog(log, now);
    this.attacks = new ThrottledLog(log, now);
  }

  /** The zone begins to run, or a working connection ended: how dials before that ended no longer matters. */
  reset(): void {
    this.code = '';
    this.busyFile = '';
    this.speedUp();
  }

  /** The port is expected soon: dials are fast for ten seconds. */
  speedUp(): void {
    this.fastUntil = this.now() + FAST_FOR_MS;
    this.slow.reset();
  }

  /** The dial found this file. */
  found(identity: string): void {
    if (identity !== this.identity) {
      this.identity = identity;
      // A new file is a new process: it has ten seconds of its own.
      this.speedUp();
    }
  }

  /** There is no connection. */
  failed(err: unknown, path: string): void {
    this.code = codeOf(err);
    if (this.code === OTHER_ZONE) {
      this.attacks.warn(
        { err, path },
        'ATTACK: a process of another zone listens on the serial port',
      );
    } else if (this.isRefused) {
      this.errors.warn({ err, path }, 'cannot connect to the serial port');
    }
  }

  /** A connection ended at once, without a byte: another process has the port. */
  busy(path: string): void {
    if (this.busyFile === this.identity) {
      this.code = 'EBUSY';
      this.conflicts.warn({ path }, 'serial port is in use by another process');
    } else {
      // Once can be a guest that reboots at once, whose next file is found then, or a connection that we gave up.
      this.code = '';
      this.busyFile = this.identity;
    }
  }

  /** How long to wait now, ms. */
  waitMs(): number {
    if (!this.isRefused && this.now() < this.fastUntil) {
      return FAST_MS;
    }
    return ABSENT.includes(this.code) ? ABSENT_MS : this.slow.next();
  }

  /** Another process has the port, or what is there is not a port. */
  private get isRefused(): boolean {
    return this.code !== '' && !RETRYABLE.includes(this.code);
  }
}
