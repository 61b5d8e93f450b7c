/*
 * vminfod: its VMs in a table for as long as it is there, and one GET of its HTTP interface.
 *
 *                   start
 *                     |
 *                     v       ready line
 *               connecting ----------------> following
 *                 ^    |                       |
 *     back-off over|   | failed                | ended, or no longer to be trusted
 *                 |    v                       |
 *                 +-- down <-------------------+            any --stop--> stopped
 *
 * Nobody waits for it: what it sent last stays in the table and is served while it is down. A new ready
 * line is compared with the table, so for all others an outage is the same as late events. One
 * warning for an outage, one record when it is over.
 *
 * A node has vminfod at `http://127.0.0.1:9090`, a simulated one on a unix socket. No VM is asked for: vminfod has none
 * that the stream has not shown.
 */
import { request, type IncomingMessage, type RequestOptions } from 'node:http';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff } from '../lib/backoff';
import { codeOf, messageOf, SystemError, systemError } from '../lib/errors';
import type { Logger } from '../log';
import { followEvents } from './event-stream';
import type { VmCache } from './vm-cache';

type VminfodState = 'connecting' | 'following' | 'down' | 'stopped';

/** What vminfod lists in its status; the platform's convention for the name. */
const USER_AGENT = `mdatad - ${hostname()}/${process.pid} (mdatad)`;
/** vminfod answers from memory; while it loads VMs at its start it can take some seconds. */
const HEADERS_TIMEOUT_MS = 10_000;
/** A VM object with metadata at its limit, with room. */
const BODY_BYTES = 64 * 1024 * 1024;
const FIRST_DELAY_MS = 100;
/**
 * Longest pause between two attempts, jitter included. What changed in an outage has to be right 5 s after
 * its end, however long it took: what remains of that time is for the ready line of a full node.
 */
const MAX_DELAY_MS = 2000;
/** A stream that broke sooner than this did not end the outage it came after. */
const STEADY_MS = 5000;

/** Keeps one table up to date. Started once; `stop` closes its connection for good. */
export class Vminfod {
  private readonly log: Logger;
  private readonly backoff = new Backoff(FIRST_DELAY_MS, MAX_DELAY_MS, 0.5);
  private readonly stopping = new AbortController();
  private state: VminfodState = 'connecting';
  private since = 0;
  private stream = new AbortController();
  private ended: Promise<void> = Promise.resolve();
  private streams = 0;
  private lastError: string | null = null;
  private outageSince: number | null = null;

  constructor(
    private readonly url: string,
    private readonly table: VmCache,
    log: Logger,
  ) {
    this.log = log.child({ component: 'vminfod', url }, true);
  }

  start(): void {
    this.ended = this.follow();
  }

  /** Idempotent. Resolves when the connection is closed. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.stream.abort();
    await this.ended;
  }

  /** Times are ms since 1970. */
  status() {
    return {
      state: this.state,
      since: this.since,
      /** When the present outage began; null: there is none. */
      outageSince: this.outageSince,
      /** Streams that came up after the first one. */
      reconnects: Math.max(0, this.streams - 1),
      /** Why the last stream ended or the last attempt failed. */
      lastError: this.lastError,
    };
  }

  private async follow(): Promise<void> {
    const { url, table } = this;
    const stopping = this.stopping.signal;
    while (!stopping.aborted) {
      this.enter('connecting');
      this.stream = new AbortController();
      const { signal } = this.stream;
      try {
        const response = await get(url, '/events', signal);
        await followEvents(url, response, table, signal, () => this.ready());
      } catch (err) {
        this.streamEnded(err);
      }
      // Ends its request and closes its socket.
      this.stream.abort();
      // Rejects when it is stopped.
      await delay(this.backoff.next(), undefined, { signal: stopping }).catch(() => undefined);
    }
    this.enter('stopped');
  }

  private enter(state: VminfodState): void {
    this.state = state;
    this.since = Date.now();
  }

  private ready(): void {
    this.enter('following');
    this.streams++;
    const { outageSince } = this;
    const vms = this.table.size;
    if (outageSince === null) {
      this.log.info({ vms }, 'following vminfod');
    } else {
      this.outageSince = null;
      this.log.info({ vms, outage_ms: Date.now() - outageSince }, 'following vminfod again');
    }
  }

  private streamEnded(err: unknown): void {
    if (this.stopping.signal.aborted) {
      return;
    }
    const steady = Date.now() - this.since >= STEADY_MS;
    if (this.state === 'following' && (steady || codeOf(err) !== 'EBADMSG')) {
      this.backoff.reset();
    }
    this.lastError = messageOf(systemError('GET /events', this.url, err));
    if (this.outageSince === null) {
      this.outageSince = Date.now();
      const known = this.table.size;
      this.log.warn(
        { err, vms: known },
        'vminfod is not available; serving the VM data it sent last',
      );
    }
    this.enter('down');
  }
}

/**
 * Asks for `path`. Resolves with a 200 response whose body is still to be read, rejects with a SystemError:
 * an errno, `ETIMEDOUT`, or `HTTP_n`. Aborting `signal` ends the request at any time, its body too.
 *
 * @param url `http://HOST:PORT` or `unix:/PATH`
 */
export function get(url: string, path: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const call = `GET ${path}`;
    const req = request({
      ...addressOf(url),
      path,
      signal,
      agent: false,
      headers: { 'User-Agent': USER_AGENT, Accept: 'application/json' },
    });
    const timer = setTimeout(() => {
      req.destroy(new SystemError(call, url, 'ETIMEDOUT', 'no answer'));
    }, HEADERS_TIMEOUT_MS);
    // Stays for the life of the request: a late error belongs to the response, whose reader gets it too.
    req.on('error', (err) => {
      clearTimeout(timer);
      reject(systemError(call, url, err));
    });
    req.once('response', (response) => {
      clearTimeout(timer);
      if (response.statusCode === 200) {
        resolve(response);
        return;
      }
      // Whoever reads a body attaches its own; this one is thrown away.
      response.on('error', () => undefined);
      req.destroy();
      reject(new SystemError(call, url, `HTTP_${response.statusCode ?? 0}`));
    });
    req.end();
  });
}

/** A whole answer, as text. Rejects with a SystemError. */
export async function getText(url: string, path: string, signal: AbortSignal): Promise<string> {
  const response = await get(url, path, signal);
  const chunks: AsyncIterable<Buffer> = response;
  const kept: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of chunks) {
      length += chunk.length;
      if (length > BODY_BYTES) {
        throw new SystemError(`GET ${path}`, url, 'EMSGSIZE');
      }
      kept.push(chunk);
    }
  } catch (err) {
    throw systemError(`GET ${path}`, url, err);
  }
  return Buffer.concat(kept).toString('utf8');
}

function addressOf(url: string): RequestOptions {
  if (url.startsWith('unix:')) {
    return { socketPath: url.slice('unix:'.length) };
  }
  const { hostname: host, port } = new URL(url);
  return { host, port: port === '' ? 80 : Number(port) };
}
