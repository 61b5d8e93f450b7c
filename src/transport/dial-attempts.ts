/*
 * What the tries so far tell of a VM's port, and so how long its serial link waits before the next one.
 *
 *   nobody there yet, or just gone   soon again (pace.ts)
 *   held by another, or what must    slowly from the start, with a warning at most once a minute
 *   not be there
 *   another file than last time      a new process of the hypervisor: all is forgotten
 *
 * Used by one serial link, which makes the tries. Keeps times, touches no file.
 */
import { codeOf } from '../lib/errors';
import { Backoff } from '../lib/backoff';
import { ThrottledLog } from '../lib/throttled-log';
import type { ThrottledLogSink } from '../lib/throttled-log';

/** What connect says of a hypervisor that is not there yet, is busy, or was just replaced. */
const NOT_YET = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'ECANCELED', 'EAGAIN', 'ESTALE'];

/** What is known of one VM's port. Times are ms, on a clock that never goes back. */
export class DialAttempts {
  /** Which file the last try went to; '' before the first. */
  identity = '';
  private readonly now: () => number;
  private readonly faults: ThrottledLog;
  private readonly holders: ThrottledLog;
  private readonly pace = new Backoff();
  private begunAt = -Infinity;
  /** The last try met somebody who did not want us, or what must not be there. */
  private turnedDown = false;
  /** We gave up a connection just now, which its hypervisor may still see in the way of the next. */
  private inOwnWay = false;
  /** The file at which the last connection ended at once, without an octet. */
  private heldFile = '';

  /** @param now a clock in ms that never goes back */
  constructor(voice: ThrottledLogSink, now: () => number) {
    this.now = now;
    this.faults = new ThrottledLog(voice, now);
    this.holders = new ThrottledLog(voice, now);
  }

  /** The zone begins to run: whatever was in its way before is over. */
  startOver(): void {
    this.turnedDown = false;
    this.hope();
  }

  /** There is new reason to believe that the port comes soon. */
  hope(): void {
    this.pace.quicken(this.now());
  }

  /** How long the next try must rest after the last one, ms: never more than ten a second. */
  restMs(): number {
    return Backoff.rest(this.begunAt, this.now());
  }

  begun(): void {
    this.begunAt = this.now();
  }

  /** The try goes to this file. */
  met(identity: string): void {
    if (identity !== this.identity) {
      this.identity = identity;
      // A new file is a new process: it has its own ten seconds.
      this.hope();
    }
  }

  /** There is no connection. */
  failed(err: unknown, path: string): void {
    const code = codeOf(err);
    this.inOwnWay = code === 'ESTALE';
    this.turnedDown = !NOT_YET.includes(code);
    if (this.turnedDown) {
      this.faults.warn({ err, path }, 'could not use the port of the VM');
    }
  }

  /** A connection ended that was one: the next comes as soon as it can. */
  lost(): void {
    this.inOwnWay = false;
    this.turnedDown = false;
    this.heldFile = '';
    this.hope();
  }

  /** A connection ended at once, without an octet. */
  heldByAnother(path: string): void {
    if (this.inOwnWay) {
      this.lost();
      return;
    }
    this.turnedDown = true;
    // Once may be a guest that reboots at once: then the next try meets another file.
    if (this.heldFile === this.identity) {
      this.holders.warn({ path }, 'another program holds the port of the VM');
    }
    this.heldFile = this.identity;
  }

  /** How long to wait now, ms; longer than `Pace.QUICK_MS` where it is worth to watch the file. */
  waitMs(): number {
    return this.turnedDown ? this.pace.nextSlow() : this.pace.next(this.now());
  }
}
