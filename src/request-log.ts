/*
 * The request log of a zone: log records and counters of what its transport reports. One info record for each handled
 * request, which for a change is the audit record too, and a warning once a minute for each kind of refusal.
 *
 * No record holds a value: of a PUT it has the length. The key is in a record once. The zone's log quota never
 * suppresses a refusal, nor a change that was charged to the zone's write rate, which bounds their number.
 */
import { codeOf } from './lib/errors';
import { printableKey, repeatsOf, type Fields, type RepeatCounter, type ZoneLog } from './log';
import type { CountedVerb, NodeMetrics, Outcome } from './metrics';
import type { Reply } from './protocol/reply';
import { isDataRequest, isWrite, type DataRequest, type Request } from './protocol/request';
import type { LinkObserver, Origin, Refusal } from './transport/link';

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

/** Counters of one zone since the agent knows it. */
class RequestStats {
  requests = 0;
  failures = 0;
  refusals = 0;
  opened = 0;
  connections = 0;
  bytesReceived = 0;
  bytesSent = 0;
  /** Of all requests together, from their last byte to their reply, ms. */
  elapsedMs = 0;
  lastRequest: LastRequest | null = null;
  /** The last `sdc:` keys that a GET did not find, as records show them, newest last. */
  readonly missing: string[] = [];
}

/** The observer of one zone's link, for as long as the zone is known. */
export class RequestLog implements LinkObserver {
  readonly stats = new RequestStats();
  /** By kind of record. Most zones never need it. */
  private repeats: Map<string, RepeatCounter> | null = null;

  /** @param now a clock in ms that never goes back */
  constructor(
    private readonly log: ZoneLog,
    private readonly metrics: NodeMetrics,
    private readonly now = (): number => performance.now(),
  ) {}

  opened(): void {
    this.stats.opened++;
    this.stats.connections++;
    this.metrics.openConnections++;
    this.metrics.acceptedConnections++;
  }

  closed(): void {
    this.stats.connections--;
    this.metrics.openConnections--;
  }

  received(bytes: number): void {
    this.stats.bytesReceived += bytes;
    this.metrics.bytesReceived += bytes;
  }

  sent(bytes: number): void {
    this.stats.bytesSent += bytes;
    this.metrics.bytesSent += bytes;
  }

  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void {
    if (!isDataRequest(request)) {
      // Part of each session, or reported as a refusal.
      return;
    }
    const verb = verbOf(request);
    const outcome = outcomeOf(reply);
    const arg = printableKey(keyOf(request));
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
    // As precise as anyone reads it.
    const elapsed = Math.round(elapsedMs * 1000) / 1000;
    const query = { cmd: verb, arg, req_v: request.wire.version, elapsed };
    const usual = { response: outcome, query };
    const isUsual = outcome !== 'FAILURE' && !isWrite(request);
    const fields = isUsual ? usual : { ...usual, ...errorOf(reply), ...auditOf(origin, request) };
    const msg = `handled ${verb}`;
    const change = reply !== null && 'change' in reply ? reply.change : undefined;
    if (change === undefined || change.uncharged === true) {
      this.log.info(fields, msg);
    } else {
      this.log.always('info', fields, msg);
    }
    if (change?.limit !== undefined) {
      this.refused(change.limit, { cmd: verb, arg });
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

  private noteMissing(key: string): void {
    const { missing } = this.stats;
    const at = missing.indexOf(key);
    if (at >= 0 || missing.length === MAX_MISSING) {
      missing.splice(Math.max(at, 0), 1);
    }
    missing.push(key);
  }
}

function keyOf(request: DataRequest): string {
  if (request.kind === 'watch') {
    return request.keys?.join(' ') ?? '';
  }
  return 'key' in request ? request.key : '';
}

const VERBS = {
  get: 'GET',
  keys: 'KEYS',
  put: 'PUT',
  delete: 'DELETE',
  watch: 'WATCH',
  getall: 'GETALL',
  hello: 'HELLO',
} as const;

function verbOf(request: DataRequest): CountedVerb {
  if (isWrite(request) && request.onlyIf !== undefined) {
    return request.kind === 'put' ? 'PUTIF' : 'DELETEIF';
  }
  return VERBS[request.kind];
}

function outcomeOf(reply: Reply | null): Outcome {
  if (reply === null || reply.kind === 'failure') {
    return 'FAILURE';
  }
  return reply.kind === 'notfound' ? 'NOTFOUND' : 'SUCCESS';
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
function auditOf({ peer }: Origin, request: DataRequest): Fields {
  if (!isWrite(request)) {
    return {};
  }
  return {
    ...(request.kind === 'put' && { length: Buffer.byteLength(request.value) }),
    ...(peer !== null && { peer: { pid: peer.pid, uid: peer.uid } }),
  };
}
