/*
 * Keeps a serial port from talking to itself.
 *
 * A guest's tty that echoes sends each answer back as a request, and a login prompt takes each answer
 * for a user's name: both would go on for ever. After 20 bad lines in a row a further one is answered at
 * most once a second. A sign of a real client (a bare newline, NEGOTIATE, a frame with a verb of the
 * protocol) ends it. An echoed V2 reply is a whole frame too, but its code is no verb: it counts as bad.
 *
 * Used by a serial connection. At most one answer waits; what comes meanwhile gets none.
 */
import type { Request } from '../protocol/request';

/** More than any client sends while it finds its way into the protocol. */
const TOLERATED = 20;
const INTERVAL_MS = 1000;

export type LineSign = 'client' | 'neutral' | 'bad';

/** What a line tells of who is on the port: a client, nothing, or that it is noise. */
export function signOf(request: Request): LineSign {
  switch (request.kind) {
    case 'reset':
      return request.bare ? 'client' : 'bad';
    case 'negotiate':
      return request.accepted ? 'client' : 'bad';
    case 'get':
    case 'keys':
    case 'put':
    case 'delete':
      return request.wire.version === 2 ? 'client' : 'neutral';
    case 'malformed':
      return request.wire.version === 2 ? 'client' : 'bad';
    case 'unknown':
    case 'too-large':
      return 'bad';
    case 'broken':
      return 'neutral';
    default: {
      const never: never = request;
      return never;
    }
  }
}

/** Counts the bad lines of one port, for as long as its connection lasts. */
export class EchoGuard {
  private readonly now: () => number;
  private inRow = 0;
  private answeredAt = -Infinity;
  private waiting: NodeJS.Timeout | null = null;

  constructor(now: () => number) {
    this.now = now;
  }

  /** A real client is there, or something else is answered first: what waits is not told any more. */
  clear(): void {
    this.inRow = 0;
    this.stop();
  }

  /**
   * A bad line came.
   * @param answer answers it: called at once, in up to a second, or never
   * @returns false when it will never be
   */
  bad(answer: () => void): boolean {
    this.inRow++;
    if (this.waiting !== null) {
      return false;
    }
    const wait = this.answeredAt + INTERVAL_MS - this.now();
    if (this.inRow <= TOLERATED || wait <= 0) {
      this.answeredAt = this.now();
      answer();
      return true;
    }
    this.waiting = setTimeout(() => {
      this.waiting = null;
      this.answeredAt = this.now();
      answer();
    }, wait);
    return true;
  }

  /** Ends the wait, not the count. */
  stop(): void {
    if (this.waiting !== null) {
      clearTimeout(this.waiting);
      this.waiting = null;
    }
  }
}
