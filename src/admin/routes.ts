/*
 * The routes of the admin server, and how a request's body is read and a reply written. Called by server.ts.
 *
 *   GET  /healthz                 200 ok or degraded: what is wrong; 503 failed: what, starting and stopping too
 *   GET  /status                  the agent in one view
 *   GET  /zones, /zones/UUID      a row each; everything about one
 *   GET  /keys/UUID               names and lengths of a zone's metadata
 *   GET  /doctor, /doctor/UUID    the whole chain, checked now
 *   GET  /datasets[/UUID]         delegated datasets and what the policy says of them
 *   GET  /metrics[?format=json]   Prometheus text        GET /kang/snapshot   the agent as kang wants it
 *   GET  /tail[?zone=UUID&level=L&last=N&since=MS&live=no]   log records, one a line, as they come
 *   GET  /log-level  PUT /log-level {"level"}
 *   POST /notify {"zonename", "state"}
 *
 * No reply holds a metadata value. Those about thousands of zones are made and written in slices.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { LOG_LEVELS } from '../config';
import { listUsage } from '../datasets/live-audit';
import { auditVm, platformStamp, policyOf } from '../datasets/policy';
import { members, oneOf, optional, problemsIn, text, type Reader } from '../lib/json-reader';
import { printableKey } from '../log';
import { aliasOf, isJsonObject, isZonename, ownString } from '../metadata/vm-data';
import { zonerootOf } from '../metadata/datasets';
import { MAP_NAMES } from '../vm/metadata-index';
import type { Zone } from '../zones/zone';
import type { HealthMonitor } from './health';
import { inSlices, NOTIFY_STATES, type AdminNode } from './node';
import { kangSnapshot, statusOf, zoneReport, zoneRows, type ZoneReport } from './status';
import { levelOf, setLevel } from './tail';

/** Stands in for the host that a request's path is of. */
const BASE_URL = 'http://mdatad';
const METHODS = ['GET', 'PUT', 'POST'] as const;
/** Of a request's body, which is a few lines. */
const BODY_CHARS = 64 * 1024;
/** Of JSON: to make one takes a fraction of a millisecond. */
const PIECE_CHARS = 64 * 1024;
/** An array or object with more members, such as one of all zones, is not made whole. */
const MOST_MEMBERS = 64;

const levelBody = members({ level: oneOf(LOG_LEVELS) });
const notifyBody = members({ zonename: text(), state: oneOf(NOTIFY_STATES) });
const digits = text(/^\d{1,15}$/, 'a whole number is needed');
const count: Reader<number> = (value) => Number(digits(value));
const tailQuery = members({
  level: optional(oneOf(LOG_LEVELS)),
  last: optional(count),
  since: optional(count),
});

/** A request that is refused: its status and message are the reply. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'Refused';
  }
}

interface Ask {
  readonly node: AdminNode;
  readonly health: HealthMonitor;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** What stands for `<zone>` in the route; empty where it has none. */
  readonly operand: string;
}

/** By method and path. What they return is the reply, as JSON; undefined: it was sent. */
type Routes = Readonly<Record<string, (ask: Ask) => unknown>>;

/** Those that may be asked over the loopback port as well. */
export const PUBLIC_ROUTES: Routes = { 'GET /healthz': healthz, 'GET /metrics': metrics };

export const ROUTES: Routes = {
  ...PUBLIC_ROUTES,
  'GET /status': async ({ node, health }) => statusOf(node, await health.snapshot()),
  'GET /kang/snapshot': async ({ node, health }) => kangSnapshot(node, await health.snapshot()),
  'GET /zones': async ({ node, health }) => zoneRows(node, await health.snapshot()),
  'GET /zones/<zone>': zone,
  'GET /keys/<zone>': keys,
  'GET /doctor': doctor,
  'GET /doctor/<zone>': doctor,
  'GET /datasets': datasets,
  'GET /datasets/<zone>': datasets,
  'GET /tail': tail,
  'GET /log-level': ({ node }) => ({ level: levelOf(node.log) }),
  'PUT /log-level': setLogLevel,
  'POST /notify': notify,
};

/** Answers a request. Throws Refused where there is no such route, or nothing to answer. */
export async function route(routes: Routes, asked: Omit<Ask, 'url' | 'operand'>): Promise<void> {
  const { request, response } = asked;
  const path = request.url ?? '/';
  if (!URL.canParse(path, BASE_URL)) {
    throw new Refused(400, 'the request has no valid path');
  }
  const url = new URL(path, BASE_URL);
  const { pathname } = url;
  const last = pathname.slice(pathname.lastIndexOf('/') + 1);
  // No path of a URL has a `<` itself.
  const general = last === '' ? '' : `${pathname.slice(0, -last.length)}<zone>`;
  const { method = '' } = request;
  const exact = routes[`${method} ${pathname}`];
  const run = exact ?? routes[`${method} ${general}`];
  if (run === undefined) {
    const allowed = METHODS.filter((each) => {
      return `${each} ${pathname}` in routes || `${each} ${general}` in routes;
    });
    if (allowed.length === 0) {
      throw new Refused(404, `no such route: ${pathname}`);
    }
    response.setHeader('Allow', allowed.join(', '));
    throw new Refused(405, `${pathname} does not take ${method}`);
  }
  const reply = await run({ ...asked, url, operand: exact === undefined ? last : '' });
  if (reply !== undefined) {
    await sendJson(response, reply);
  }
}

/** A degraded agent serves its zones, so whoever waits for it to serve (SMF's start method) has waited enough. */
async function healthz({ health, response }: Ask): Promise<void> {
  const { state, summary } = await health.snapshot();
  sendText(response, state === 'failed' ? 503 : 200, `${summary}\n`);
}

async function metrics({ node, health, request, response, url }: Ask): Promise<unknown> {
  // Loaded by the first who asks: prom-client takes 4 MiB and 25 ms, the doctor 18, which no start has to spare.
  const { metricsNow } = await import('./metrics-endpoint.js');
  const wantsOpen = request.headers.accept?.includes('application/openmetrics-text') === true;
  const format = wantsOpen ? 'openmetrics' : 'prometheus';
  const families = await metricsNow(node, await health.snapshot(), format);
  if (url.searchParams.get('format') === 'json') {
    return families.getMetricsAsJSON();
  }
  sendText(response, 200, await families.metrics(), families.contentType);
  return undefined;
}

async function doctor({ node, health, operand }: Ask): Promise<unknown> {
  const { runDoctor } = await import('./doctor.js');
  return runDoctor(node, health, operand === '' ? undefined : named(node, operand));
}

async function zone({ node, health, operand }: Ask): Promise<ZoneReport> {
  return zoneReport(node, zoneNamed(node, operand), await health.snapshot());
}

export type KeyRow = Awaited<ReturnType<typeof keys>>[number];

/** Of metadata.json; names and lengths come from the file's offsets: no value is read. */
async function keys({ node, operand }: Ask) {
  const { zonename } = zoneNamed(node, operand);
  const data = await node.store.data(zonename)?.load({ key: null });
  const rows = [];
  for (const map of MAP_NAMES) {
    const values = data?.metadata()[map];
    for await (const name of inSlices(values?.keys() ?? [])) {
      /** Of the value that GET gives, as UTF-8; of what is no string, as JSON. */
      const bytes = values?.bytesOf?.(name) ?? 0;
      // Guests read `internal` only in the VM's namespaces and for names that end in `_pw`.
      rows.push({ key: printableKey(name), bytes, map });
    }
  }
  return rows;
}

export type DatasetsReport = Awaited<ReturnType<typeof datasets>>;

/**
 * Delegated datasets of some VMs, and what the "safe" policy says of each. Usage is read from one `zfs list` of
 * the whole node; without it no VM is called safe.
 */
async function datasets({ node, operand }: Ask) {
  const { table } = node.store;
  const names = operand === '' ? table.zonenames() : [zoneNamed(node, operand).zonename];
  const policy = policyOf(node.config().datasets);
  const listed = await listUsage(node.paths.zfs);
  const platform = platformStamp();
  const rows = [];
  for await (const zonename of inSlices(names)) {
    const vm = table.vm(zonename);
    if (vm === undefined) {
      continue;
    }
    const usage = listed.kind === 'known' ? listed.usage.get(zonerootOf(vm) ?? '') : undefined;
    const audit = auditVm(vm, policy, { platform, usage, last: node.datasets.lastOf(zonename) });
    if (audit !== undefined) {
      const owner = ownString(vm, 'owner_uuid') ?? null;
      rows.push({ zonename, alias: aliasOf(vm), owner, audit });
    }
  }
  /** Why usage could not be read; empty where it was. */
  const usageUnknown = listed.kind === 'unknown' ? listed.why : '';
  return { policy, usageUnknown, zones: rows };
}

function tail({ node, response, url: { searchParams } }: Ask): void {
  const parameter = (name: string): string | undefined => searchParams.get(name) ?? undefined;
  const wanted = parameter('zone');
  const zonename = wanted === undefined ? undefined : zoneNamed(node, wanted).zonename;
  const [level, last, since] = [parameter('level'), parameter('last'), parameter('since')];
  const options = orRefused(() => tailQuery({ level, last, since }));
  response.setHeader('Content-Type', 'application/x-json-stream');
  const live = parameter('live') !== 'no';
  if (!node.tail.follow(response, { zonename, live, ...options })) {
    throw new Refused(503, 'too many clients follow the log already');
  }
  if (!response.headersSent) {
    // The headers go now: the first record may be long in coming.
    response.flushHeaders();
  }
}

async function setLogLevel({ node, request }: Ask): Promise<unknown> {
  const { level } = await bodyOf(request, levelBody);
  const previous = levelOf(node.log);
  setLevel(node.log, level);
  // Under other names: a record's own member `level` is its severity.
  node.log.info({ now: level, before: previous }, 'log level changed');
  return { level, previous };
}

async function notify({ node, request }: Ask): Promise<unknown> {
  const { zonename, state } = await bodyOf(request, notifyBody);
  const facts = await node.zones.notify(named(node, zonename));
  return { zonename, said: state, is: facts?.state ?? null };
}

function zoneNamed(node: AdminNode, name: string): Zone {
  const found = node.zones.get(named(node, name));
  if (found === undefined) {
    throw new Refused(404, `no such zone: ${name}`);
  }
  return found;
}

/** The zone that is meant: by its name, or by the uuid of its VM where that is another. */
function named(node: AdminNode, name: string): string {
  if (!isZonename(name)) {
    throw new Refused(400, 'that is not the name of a zone');
  }
  const isHeld = node.zones.get(name) !== undefined;
  return isHeld ? name : (node.store.table.zoneOf(name) ?? name);
}

/** Reads a JSON body. @throws Refused: too large, not JSON, or not what is wanted */
async function bodyOf<T>(request: IncomingMessage, reader: Reader<T>): Promise<T> {
  let body = '';
  const chunks: AsyncIterable<string> = request.setEncoding('utf8');
  for await (const chunk of chunks) {
    body += chunk;
    if (body.length > BODY_CHARS) {
      throw new Refused(413, `the body is larger than ${BODY_CHARS} bytes`);
    }
  }
  return orRefused(() => reader(JSON.parse(body)));
}

/** What is read. @throws Refused where it is not what is wanted */
function orRefused<T>(read: () => T): T {
  try {
    return read();
  } catch (err) {
    throw new Refused(400, err instanceof SyntaxError ? 'the body is not JSON' : problemsIn(err));
  }
}

/** Answers `{"error": message}`. @param status 400 or more */
export function sendError(response: ServerResponse, status: number, message: string): void {
  sendText(response, status, `${JSON.stringify({ error: message })}\n`, 'application/json');
}

/** Answers with text, and ends the response. No cache may keep it. */
function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  contentType = 'text/plain; charset=utf-8',
): void {
  response.statusCode = status;
  response.setHeader('Content-Type', contentType);
  response.setHeader('Cache-Control', 'no-store');
  response.end(text);
}

/** Answers with JSON on one line, a long one in pieces, and ends the response. */
async function sendJson(response: ServerResponse, reply: unknown): Promise<void> {
  response.setHeader('Content-Type', 'application/json');
  response.setHeader('Cache-Control', 'no-store');
  let piece = '';
  for await (const part of inSlices(jsonParts(reply))) {
    piece += part;
    if (piece.length > PIECE_CHARS) {
      response.write(piece);
      piece = '';
    }
  }
  response.end(`${piece}\n`);
}

/** What JSON.stringify makes of a value, one member at a time where it has many. */
function* jsonParts(value: unknown, most = 0): Generator<string> {
  const isArray = Array.isArray(value);
  const all = isArray || isJsonObject(value) ? Object.entries(value) : [];
  const entries = all.filter(([, member]) => member !== undefined);
  if (entries.length <= most) {
    yield JSON.stringify(value, replaced);
    return;
  }
  let before = isArray ? '[' : '{';
  for (const [name, member] of entries) {
    yield isArray ? before : `${before}${JSON.stringify(name)}:`;
    yield* jsonParts(member, MOST_MEMBERS);
    before = ',';
  }
  yield isArray ? ']' : '}';
}

/** Records of the log may hold errors, of which JSON.stringify shows nothing. */
function replaced(_name: string, value: unknown): unknown {
  if (!(value instanceof Error)) {
    return value;
  }
  const code = 'code' in value ? value.code : undefined;
  return { name: value.name, message: value.message, code };
}
