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
 * No reply holds a metadata value.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { LOG_LEVELS } from '../config';
import { listUsage } from '../datasets/live-audit';
import { auditVm, platformStamp, policyOf } from '../datasets/policy';
import { CooperativeYield } from '../lib/scheduler';
import { members, oneOf, problemsIn, text, type Reader } from '../lib/json-reader';
import { printableKey, type Level } from '../log';
import { aliasOf, isZonename, ownString } from '../metadata/vm-data';
import { zonerootOf } from '../metadata/datasets';
import type { Registry } from '../zones/registry';
import type { Zone } from '../zones/zone';
import type { Doctor } from './doctor';
import type { HealthMonitor, HealthSnapshot } from './health';
import type { Metrics } from './metrics-endpoint';
import { NOTIFY_STATES, type AdminNode } from './node';
import { kangSnapshot, statusOf, type Status } from './status';
import { levelOf, setLevel } from './tail';
import type { SelfHealth } from './watchdog';
import { zoneReport, zoneRow, type ZoneRow } from './zone-report';

/** Stands in for the host that a request's path is of. */
const BASE_URL = 'http://mdatad';

/** A request's body is a few lines. */
const BODY_BYTES = 64 * 1024;

const levelBody = members({ level: oneOf(LOG_LEVELS) });
const notifyBody = members({ zonename: text(), state: oneOf(NOTIFY_STATES) });

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

export interface Parts {
  readonly node: AdminNode;
  /** Made when they are first asked for. */
  readonly doctor: () => Promise<Doctor>;
  readonly metrics: () => Promise<Metrics>;
  readonly health: HealthMonitor;
  readonly self: () => SelfHealth;
}

/** One key of a zone's metadata.json. */
export interface KeyRow {
  /** As a record of the log would show it: control characters escaped, cut to 256 bytes. */
  readonly key: string;
  /** Of the value that GET gives, as UTF-8; of what is no string, as JSON. */
  readonly bytes: number;
  /** Which map it is in: guests read `internal` only in the VM's namespaces and for names that end in `_pw`. */
  readonly map: 'customer' | 'internal';
}

interface Ask {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** The part of the path behind the route's name; empty where there is none. */
  readonly operand: string;
}

interface Route {
  readonly method: 'GET' | 'PUT' | 'POST';
  readonly path: string;
  /** Whether something follows the path. */
  readonly operand?: 'zone';
  readonly run: (parts: Parts, ask: Ask) => void | Promise<void>;
}

/** Those that may be asked over the loopback port as well. */
export const PUBLIC_ROUTES: readonly Route[] = [
  { method: 'GET', path: '/healthz', run: health },
  { method: 'GET', path: '/metrics', run: metrics },
];

export const ROUTES: readonly Route[] = [
  ...PUBLIC_ROUTES,
  { method: 'GET', path: '/status', run: status },
  { method: 'GET', path: '/zones', run: zones },
  { method: 'GET', path: '/zones', operand: 'zone', run: zone },
  { method: 'GET', path: '/keys', operand: 'zone', run: keys },
  { method: 'GET', path: '/doctor', run: doctor },
  { method: 'GET', path: '/doctor', operand: 'zone', run: doctor },
  { method: 'GET', path: '/datasets', run: datasets },
  { method: 'GET', path: '/datasets', operand: 'zone', run: datasets },
  { method: 'GET', path: '/kang/snapshot', run: kang },
  { method: 'GET', path: '/tail', run: tail },
  { method: 'GET', path: '/log-level', run: logLevel },
  { method: 'PUT', path: '/log-level', run: setLogLevel },
  { method: 'POST', path: '/notify', run: notify },
];

/** Answers a request. Throws Refused where there is no such route, or nothing to answer. */
export async function route(
  routes: readonly Route[],
  parts: Parts,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = request.url ?? '/';
  if (!URL.canParse(path, BASE_URL)) {
    throw new Refused(400, 'the request has no valid path');
  }
  const url = new URL(path, BASE_URL);
  const matching = routes.flatMap((each) => {
    const operand = operandOf(each, url.pathname);
    return operand === undefined ? [] : [{ each, operand }];
  });
  if (matching.length === 0) {
    throw new Refused(404, `no such route: ${url.pathname}`);
  }
  const found = matching.find(({ each }) => each.method === request.method);
  if (found === undefined) {
    response.setHeader('Allow', matching.map(({ each }) => each.method).join(', '));
    throw new Refused(405, `${url.pathname} does not take ${request.method ?? ''}`);
  }
  await found.each.run(parts, { request, response, url, operand: found.operand });
}

function operandOf({ path, operand }: Route, pathname: string): string | undefined {
  if (operand === undefined) {
    return pathname === path ? '' : undefined;
  }
  const rest = pathname.startsWith(`${path}/`) ? pathname.slice(path.length + 1) : '';
  return rest === '' || rest.includes('/') ? undefined : rest;
}

/** A degraded agent serves its zones, so whoever waits for it to serve (SMF's start method) has waited enough. */
async function health(parts: Parts, { response }: Ask): Promise<void> {
  const { state, summary } = await parts.health.snapshot();
  sendText(response, state === 'failed' ? 503 : 200, `${summary}\n`);
}

async function metrics(parts: Parts, { request, response, url }: Ask): Promise<void> {
  const families = await parts.metrics();
  if (url.searchParams.get('format') === 'json') {
    sendJson(response, 200, await families.json());
    return;
  }
  const wantsOpen = request.headers.accept?.includes('application/openmetrics-text') === true;
  const format = wantsOpen ? 'openmetrics' : 'prometheus';
  sendText(response, 200, await families.text(format), families.contentType(format));
}

async function status(parts: Parts, { response }: Ask): Promise<void> {
  sendJson(response, 200, await currentStatus(parts, await parts.health.snapshot()));
}

async function kang(parts: Parts, { response }: Ask): Promise<void> {
  const snapshot = await parts.health.snapshot();
  const current = await currentStatus(parts, snapshot);
  sendJson(response, 200, await kangSnapshot(parts.node, current, snapshot));
}

function currentStatus({ node, self }: Parts, snapshot: HealthSnapshot): Promise<Status> {
  return statusOf(node, self(), snapshot);
}

async function zones({ node, health: monitor }: Parts, { response }: Ask): Promise<void> {
  const snapshot = await monitor.snapshot();
  const rows: ZoneRow[] = [];
  const slice = new CooperativeYield();
  for (const each of [...(node.registry()?.all() ?? [])]) {
    await slice.pause();
    rows.push(zoneRow(node, each, snapshot));
  }
  sendJson(response, 200, rows);
}

async function zone(parts: Parts, { response, operand }: Ask): Promise<void> {
  const { node } = parts;
  const found = zoneNamed(node, operand);
  // The doctor reports a file that cannot be read.
  const metadata = await node.store.metadataUse(found.zonename).catch(() => undefined);
  const report = zoneReport(node, found, await parts.health.snapshot());
  sendJson(response, 200, { ...report, metadata: metadata ?? null });
}

/** Names and lengths come from the file's offsets: no value is read. */
async function keys({ node }: Parts, { response, operand }: Ask): Promise<void> {
  const { zonename } = zoneNamed(node, operand);
  const data = await node.store.data(zonename)?.load({ key: null });
  const rows: KeyRow[] = [];
  const slice = new CooperativeYield();
  for (const map of ['customer', 'internal'] as const) {
    const values = data?.metadata()[map];
    for (const key of values?.keys() ?? []) {
      await slice.pause();
      rows.push({ key: printableKey(key), bytes: values?.bytesOf?.(key) ?? 0, map });
    }
  }
  sendJson(response, 200, rows);
}

async function doctor(parts: Parts, { response, operand }: Ask): Promise<void> {
  const report =
    operand === ''
      ? await (await parts.doctor()).checkAll()
      : await (await parts.doctor()).checkOne(named(parts.node, operand));
  sendJson(response, 200, report);
}

async function datasets({ node }: Parts, { response, operand }: Ask): Promise<void> {
  const zonename = operand === '' ? undefined : zoneNamed(node, operand).zonename;
  sendJson(response, 200, await datasetsReport(node, zonename));
}

/** What `mdatactl datasets` shows. */
export type DatasetsReport = Awaited<ReturnType<typeof datasetsReport>>;

/**
 * Delegated datasets of one VM or of all, and what the "safe" policy says of each. Usage is read from one `zfs list` of
 * the whole node; without it no VM is called safe.
 */
async function datasetsReport(node: AdminNode, zonename: string | undefined) {
  const policy = policyOf(node.config().datasets);
  const listed = await listUsage(node.paths.zfs);
  const { table } = node.store;
  const zones = (zonename === undefined ? table.zonenames() : [zonename]).flatMap((name) => {
    const vm = table.vm(name);
    if (vm === undefined) {
      return [];
    }
    const usage = listed.kind === 'known' ? listed.usage.get(zonerootOf(vm) ?? '') : undefined;
    const last = node.datasets.lastOf(name);
    const audit = auditVm(vm, policy, { platform: platformStamp(), usage, last });
    const owner = ownString(vm, 'owner_uuid') ?? null;
    return audit === undefined ? [] : [{ zonename: name, alias: aliasOf(vm), owner, audit }];
  });
  /** Why usage could not be read; empty where it was. */
  const usageUnknown = listed.kind === 'unknown' ? listed.why : '';
  return { policy, usageUnknown, zones };
}

function tail({ node }: Parts, { response, url: { searchParams } }: Ask): void {
  const wanted = searchParams.get('zone');
  const options = {
    zonename: wanted === null ? null : zoneNamed(node, wanted).zonename,
    level: levelParameter(searchParams.get('level')),
    last: countParameter('last', searchParams.get('last')),
    since: countParameter('since', searchParams.get('since')),
    live: searchParams.get('live') !== 'no',
  };
  response.setHeader('Content-Type', 'application/x-json-stream');
  if (!node.tail.follow(response, options)) {
    throw new Refused(503, 'too many clients follow the log already');
  }
  if (!response.headersSent) {
    // The headers go now: the first record may be long in coming.
    response.flushHeaders();
  }
}

function levelParameter(value: string | null): Level | null {
  const level = LOG_LEVELS.find((name) => name === value) ?? null;
  if (level === null && value !== null) {
    throw new Refused(400, `level: one of ${LOG_LEVELS.join(', ')} is needed`);
  }
  return level;
}

function countParameter(name: string, value: string | null): number | null {
  if (value !== null && !/^\d{1,15}$/.test(value)) {
    throw new Refused(400, `${name}: a whole number is needed`);
  }
  return value === null ? null : Number(value);
}

function logLevel({ node }: Parts, { response }: Ask): void {
  sendJson(response, 200, { level: levelOf(node.log) });
}

async function setLogLevel({ node }: Parts, { request, response }: Ask): Promise<void> {
  const { level } = parsed(levelBody, await readJson(request));
  const previous = levelOf(node.log);
  setLevel(node.log, level);
  // Under other names: a record's own member `level` is its severity.
  node.log.info({ now: level, before: previous }, 'log level changed');
  sendJson(response, 200, { level, previous });
}

async function notify({ node }: Parts, { request, response }: Ask): Promise<void> {
  const { zonename, state } = parsed(notifyBody, await readJson(request));
  const facts = await registryOf(node).notify(named(node, zonename));
  sendJson(response, 200, { zonename, said: state, is: facts?.state ?? null });
}

function parsed<T>(reader: Reader<T>, body: unknown): T {
  try {
    return reader(body);
  } catch (err) {
    throw new Refused(400, problemsIn(err));
  }
}

function registryOf(node: AdminNode): Registry {
  const registry = node.registry();
  if (registry === null) {
    throw new Refused(503, 'the agent is starting and knows no zones yet');
  }
  return registry;
}

function zoneNamed(node: AdminNode, name: string): Zone {
  const found = registryOf(node).get(named(node, name));
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
  const isHeld = node.registry()?.get(name) !== undefined;
  return isHeld ? name : (node.store.table.zoneOf(name) ?? name);
}

/** Answers with JSON on one line, and ends the response. */
function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body, replaced)}\n`;
  sendText(response, status, text, 'application/json');
}

/** Answers with text, and ends the response. No cache may keep it. */
function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  contentType = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
  });
  response.end(text);
}

/** Answers `{"error": message}`. @param status 400 or more */
export function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, { error: message });
}

/** Reads a JSON body. @throws Refused: too large, or no JSON */
async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  const body: AsyncIterable<Buffer> = request;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > BODY_BYTES) {
      throw new Refused(413, `the body is larger than ${BODY_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new Refused(400, 'the body is not JSON');
  }
}

/** Records of the log may hold errors and big integers, which JSON does not know. */
function replaced(_name: string, value: unknown): unknown {
  if (value instanceof Error) {
    const code = 'code' in value ? value.code : undefined;
    return { name: value.name, message: value.message, code };
  }
  return typeof value === 'bigint' ? value.toString() : value;
}
