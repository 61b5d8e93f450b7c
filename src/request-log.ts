/*
 * The request log of a zone: log records and counters of what its transport reports.
 *
 * It writes one info record for each handled request, which for a PUT or DELETE is the audit record too (who, how long
 * a value, with what result), and a warning once a minute for each kind of refusal with the number of repeats. It counts
 * all of them. No record holds a value: of a PUT it has the length. The key is in a record once, in `query.arg`.
 *
 * The zone's log quota never suppresses a refusal, nor a change that was charged to the zone's write rate, which bounds
 * their number, stored or failed. Records of reads, and of changes that were refused or joined another one, can be
 * suppressed.
 */
import { codeOf } from './lib/errors';
import { printableKey, repeatsOf, type Fields, type RepeatCounter, type ZoneLog } from './log';
import type { ChangeCourse, Reply } from './protocol/reply';
import { isWrite, type DataRequest, type Request } from './protocol/request';
import type { LinkObserver, Origin, Refusal } from './transport/link';

export type Outcome = 'SUCCESS' | 'NOTFOUND' | 'FAILURE';
export type CountedVerb =
  'GET' | 'KEYS' | 'PUT' | 'DELETE' | 'WATCH' | 'GETALL' | 'PUTIF' | 'DELETEIF' | 'HELLO';

/** Counters of the whole node; the admin side makes metrics of them. */
export interface NodeRequestStats {
  request(verb: CountedVerb, outcome: Outcome, elapsedMs: number): void;
  refused(reason: Refusal): void;
  bytes(received: number, sent: number): void;
  connections(change: 1 | -1): void;
}

/** Counters of one zone since the agent knows it. */
export interface RequestStats {
  requests: number;
  failures: number;
  refusals: number;
  opened: number;
  connections: number;
  bytesReceived: number;
  bytesSent: number;
  /** Of all requests together, from their last byte to their reply, ms. */
  elapsedMs: number;
  lastRequest: LastRequest | null;
  /** The last `sdc:` keys that a GET did not find, as records show them, newest last. */
  readonly missing: string[];
}

/** A boot asks for a few that are not set; a misspelt one should still be among them. */
const MAX_MISSING = 8;

export interface LastRequest {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly verb: CountedVerb;
  readonly key: string;
  readonly outcome: Outcome;
  readonly elapsedMs: number;
}

/** The observer of one zone's link, for as long as the zone is known. */
export class RequestLog implements LinkObserver {
  readonly stats: RequestStats = {
    requests: 0,
    failures: 0,
    refusals: 0,
    opened: 0,
    connections: 0,
    bytesReceived: 0,
    bytesSent: 0,
    elapsedMs: 0,
    lastRequest: null,
    missing: [],
  };
  /** By kind of record. Most zones never need it. */
  private repeats: Map<string, RepeatCounter> | null = null;

  /** @param now a clock in ms that never goes back */
  constructor(
    private readonly log: ZoneLog,
    private readonly metrics: NodeRequestStats,
    private readonly now = (): number => performance.now(),
  ) {}

  opened(): void {
    this.stats.opened++;
    this.stats.connections++;
    this.metrics.connections(1);
  }

  closed(): void {
    this.stats.connections--;
    this.metrics.connections(-1);
  }

  received(bytes: number): void {
    this.stats.bytesReceived += bytes;
    this.metrics.bytes(bytes, 0);
  }

  sent(bytes: number): void {
    this.stats.bytesSent += bytes;
    this.metrics.bytes(0, bytes);
  }

  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void {
    switch (request.kind) {
      case 'get':
      case 'put':
      case 'delete':
        this.handled(origin, request, request.key, reply, elapsedMs);
        return;
      case 'watch':
        this.handled(origin, request, (request.keys ?? []).join(' '), reply, elapsedMs);
        return;
      case 'keys':
      case 'getall':
      case 'hello':
        this.handled(origin, request, '', reply, elapsedMs);
        return;
      case 'reset':
      case 'negotiate':
      case 'malformed':
      case 'unknown':
      case 'too-large':
      case 'broken':
        // Part of each session, or reported as a refusal.
        return;
      default: {
        const never: never = request;
        return never;
      }
    }
  }

  refused(reason: Refusal, detail: Fields): void {
    this.stats.refusals++;
    this.metrics.refused(reason);
    const more = this.repeatFields(reason);
    if (more !== null) {
      this.log.always('warn', { reason, ...detail, ...more }, 'refused');
    }
  }

  /** A request failed by an error of the agent or of the machine. A guest can cause it as often as it likes. */
  fault(request: Request['kind'], err: unknown): void {
    const more = this.repeatFields(`fault ${codeOf(err)}`);
    if (more !== null) {
      this.log.always(
        'error',
        { err, request, ...more },
        'internal error while handling a request',
      );
    }
  }

  /** Further fields of a record of this kind; null when there was one within the minute. */
  private repeatFields(what: string): Fields | null {
    this.repeats ??= new Map();
    const first = !this.repeats.has(what);
    const suppressed = repeatsOf(this.repeats, what, this.now).next();
    if (suppressed === null) {
      return null;
    }
    return first ? {} : { more_since_last: suppressed };
  }

  private handled(
    origin: Origin,
    request: DataRequest,
    key: string,
    reply: Reply | null,
    elapsedMs: number,
  ): void {
    const verb = verbOf(request);
    const outcome = outcomeOf(reply);
    const arg = printableKey(key);
    this.stats.requests++;
    this.stats.elapsedMs += elapsedMs;
    if (outcome === 'FAILURE') {
      this.stats.failures++;
    }
    this.stats.lastRequest = { at: Date.now(), verb, key: arg, outcome, elapsedMs };
    if (outcome === 'NOTFOUND' && arg.startsWith('sdc:')) {
      this.noteMissing(arg);
    }
    this.metrics.request(verb, outcome, elapsedMs);
    const query = { cmd: verb, arg, req_v: request.wire.version, elapsed: microseconds(elapsedMs) };
    const usual = { response: outcome, query };
    const isUsual = outcome !== 'FAILURE' && !isWrite(request);
    const fields = isUsual ? usual : { ...usual, ...errorOf(reply), ...auditOf(origin, request) };
    const msg = `handled ${verb}`;
    const change = courseOf(reply);
    if (change === undefined || change.uncharged === true) {
      this.log.info(fields, msg);
    } else {
      this.log.always('info', fields, msg);
    }
    if (change?.limit !== undefined) {
      this.refused(change.limit, { cmd: verb, arg });
    }
  }

  private noteMissing(key: string): void {
    const { missing } = this.stats;
    const at = missing.indexOf(key);
    if (at >= 0 || missing.length === MAX_MISSING) {
      missing.splice(Math.max(at, 0), 1);
    }
    missing.push(key);
  }
}

/** As precise as anyone reads it: whole microseconds, in ms. */
function microseconds(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

function verbOf(request: DataRequest): CountedVerb {
  switch (request.kind) {
    case 'get':
      return 'GET';
    case 'keys':
      return 'KEYS';
    case 'put':
      return request.onlyIf === undefined ? 'PUT' : 'PUTIF';
    case 'delete':
      return request.onlyIf === undefined ? 'DELETE' : 'DELETEIF';
    case 'watch':
      return 'WATCH';
    case 'getall':
      return 'GETALL';
    case 'hello':
      return 'HELLO';
  }
}

function outcomeOf(reply: Reply | null): Outcome {
  switch (reply?.kind) {
    case 'success':
    case 'bytes':
      return 'SUCCESS';
    case 'notfound':
      return 'NOTFOUND';
    case 'failure':
    case undefined:
      return 'FAILURE';
  }
}

/** How a change was executed; undefined where the request was not one, or did not reach the writer. */
function courseOf(reply: Reply | null): ChangeCourse | undefined {
  return reply?.kind === 'success' || reply?.kind === 'failure' ? reply.change : undefined;
}

/** Why it failed, in the fixed words of the reply, where operators' scripts expect it. */
function errorOf(reply: Reply | null): Fields {
  if (reply?.kind !== 'failure') {
    return {};
  }
  // An object or an array: the reply has no reason.
  const message = reply.text === '' ? 'the value has no text' : reply.text;
  return { err: { message, name: 'Failure' } };
}

/** Who changed what: zone and key are in the record anyway. */
function auditOf(origin: Origin, request: Request): Fields {
  if (request.kind !== 'put' && request.kind !== 'delete') {
    return {};
  }
  const length = request.kind === 'put' ? { length: Buffer.byteLength(request.value) } : {};
  const { peer } = origin;
  return peer === null ? length : { ...length, peer: { pid: peer.pid, uid: peer.uid } };
}
