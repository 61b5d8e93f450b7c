/*
 * The simulated node's vminfod: its HTTP interface on a unix socket.
 *
 * Whoever owns the VMs makes it with a way to list them and tells it of each change; it keeps the copy
 * that vminfod keeps, which is what answers and events are made from. The copy is what faults act on:
 *
 *   down     the socket is gone and streams end; on the way back the copy is made anew
 *   freeze   changes of a zone reach neither the copy nor the stream, until it is thawed or it restarts
 *   delay    changes reach both later
 *   garbage  the next line of each stream is no JSON
 *
 * Thawing tells what was missed. It knows nothing of files: the owner reads metadata.json and says so.
 */
import { randomUUID } from 'node:crypto';
import { unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

import { isJsonObject, type JsonObject, own } from '../../src/metadata/vm-data';

export interface VmSource {
  /** All VM objects as they are now. */
  vms(): Iterable<JsonObject>;
}

/** A VM as JSON: whole, and each member by its name, as to parse it all for each change would cost too much. */
interface KnownVm {
  readonly text: string;
  readonly members: ReadonlyMap<string, string>;
}

interface Listener {
  readonly ident: string;
  readonly response: ServerResponse;
}

const JSON_TYPE = { 'Content-Type': 'application/json' };
const GARBAGE = Buffer.concat([Buffer.from('{"type":"mod\u0000'), Buffer.from([0xff, 0xfe, 0x0a])]);

/** One vminfod, which can be ended and started again. */
export class VminfodService {
  private readonly copy = new Map<string, KnownVm>();
  private readonly listeners = new Set<Listener>();
  private readonly frozen = new Set<string>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private server: Server | null = null;
  private startedAt = Date.now();
  private delayMs = 0;

  /** @param path the unix socket to serve on */
  constructor(
    private readonly path: string,
    private readonly source: VmSource,
  ) {}

  /** Reads all VMs and listens. An old socket file is replaced. */
  async start(): Promise<void> {
    this.copy.clear();
    for (const vm of this.source.vms()) {
      this.copy.set(zonenameOf(vm), knownOf(vm));
    }
    this.startedAt = Date.now();
    try {
      unlinkSync(this.path);
    } catch {
      // None there, the usual case; any other reason shows again when listening fails.
    }
    const server = createServer((request, response) => this.answer(request, response));
    // The stream has no end and no heartbeat.
    server.requestTimeout = 0;
    server.keepAliveTimeout = 1000;
    this.server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.path, resolve);
    });
  }

  /** Ends all streams and stops listening, as when vminfod stops or dies. Idempotent. */
  async stop(): Promise<void> {
    this.timers.forEach((timer) => clearTimeout(timer));
    this.timers.clear();
    const server = this.server;
    this.server = null;
    if (server !== null) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      this.listeners.clear();
      await closed;
    }
  }

  /** `vminfod.down`: stops or starts it. */
  async setDown(down: boolean): Promise<void> {
    if (down) {
      await this.stop();
    } else if (this.server === null) {
      await this.start();
    }
  }

  /** `vminfod.freeze`: it notices nothing of this zone any more; thawed, it finds what it missed. */
  setFrozen(zonename: string, frozen: boolean): void {
    if (frozen) {
      this.frozen.add(zonename);
    } else if (this.frozen.delete(zonename)) {
      const vm = [...this.source.vms()].find((candidate) => zonenameOf(candidate) === zonename);
      if (vm === undefined) {
        this.deleted(zonename);
      } else {
        this.modified(vm);
      }
    }
  }

  /** `vminfod.delay`: what happens is noticed this much later, ms; 0 ends it. */
  setDelay(ms: number): void {
    this.delayMs = ms;
  }

  /** `vminfod.garbage`: every stream gets a line that is no JSON now. */
  sendGarbage(): void {
    this.broadcast(GARBAGE);
  }

  /** A VM is there, or may have changed; nothing is published where it has not. */
  modified(vm: JsonObject): void {
    const zonename = zonenameOf(vm);
    // As it is now: a delay must not show what comes after.
    const known = knownOf(vm);
    this.later(zonename, () => this.put(zonename, known));
  }

  /** A VM is gone. */
  deleted(zonename: string): void {
    this.later(zonename, () => {
      const old = this.copy.get(zonename);
      if (old !== undefined) {
        this.copy.delete(zonename);
        this.tell('delete', zonename, old, '');
      }
    });
  }

  /** How many streams are open. */
  get listenerCount(): number {
    return this.listeners.size;
  }

  private later(zonename: string, notice: () => void): void {
    const act = (): void => {
      // A stopped one reads everything when it starts.
      if (this.server !== null && !this.frozen.has(zonename)) {
        notice();
      }
    };
    if (this.delayMs === 0) {
      act();
      return;
    }
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, this.delayMs);
    this.timers.add(timer);
  }

  private put(zonename: string, vm: KnownVm): void {
    const old = this.copy.get(zonename);
    this.copy.set(zonename, vm);
    if (old === undefined) {
      this.tell('create', zonename, vm, `,"vm":${vm.text}`);
      return;
    }
    const names = [...new Set([...old.members.keys(), ...vm.members.keys()])];
    const changed = names.filter((name) => old.members.get(name) !== vm.members.get(name));
    const changes = changesBetween(parsed(old, changed), parsed(vm, changed));
    if (changes.length > 0) {
      this.tell('modify', zonename, vm, `,"vm":${vm.text},"changes":${JSON.stringify(changes)}`);
    }
  }

  /** @param more members of the event, as JSON */
  private tell(type: string, zonename: string, vm: KnownVm, more: string): void {
    const head = JSON.stringify({ type, date: new Date().toISOString(), zonename });
    const uuid = vm.members.get('uuid');
    const ofUuid = uuid === undefined ? '' : `,"uuid":${uuid}`;
    this.broadcast(`${head.slice(0, -1)}${ofUuid}${more}}\n`);
  }

  private broadcast(line: string | Buffer): void {
    for (const { response } of this.listeners) {
      response.write(line);
    }
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== 'GET') {
      response.writeHead(400, JSON_TYPE).end();
      return;
    }
    const { pathname } = new URL(request.url ?? '/', 'http://vminfod');
    const name = /^\/vms\/([^/]+)$/.exec(pathname)?.[1];
    if (name !== undefined) {
      const known = this.copy.get(name);
      respond(response, known ? 200 : 404, known?.text ?? `VM Not Found: ${name}`);
      return;
    }
    switch (pathname) {
      case '/ping':
        respond(response, 200, JSON.stringify({ ping: 'pong' }));
        return;
      case '/status':
        respond(response, 200, JSON.stringify(this.status()));
        return;
      case '/vms':
        respond(response, 200, this.allVms());
        return;
      case '/events':
        this.follow(request, response);
        return;
      default:
        respond(response, 404, 'Unsupported URL Path');
    }
  }

  private follow(request: IncomingMessage, response: ServerResponse): void {
    const uuid = randomUUID();
    const listener = { ident: request.headers['user-agent'] ?? uuid, response };
    response.writeHead(200, JSON_TYPE);
    const date = new Date().toISOString();
    response.write(`${JSON.stringify({ type: 'ready', date, uuid, vms: this.allVms() })}\n`);
    this.listeners.add(listener);
    response.once('close', () => this.listeners.delete(listener));
    response.on('error', () => this.listeners.delete(listener));
  }

  private allVms(): string {
    return `[${[...this.copy.values()].map(({ text }) => text).join(',')}]`;
  }

  private status(): object {
    const now = new Date();
    return {
      pid: process.pid,
      uptime: (now.getTime() - this.startedAt) / 1000,
      memory: process.memoryUsage(),
      state: 'running',
      status: 'running',
      numVms: this.copy.size,
      curDate: now.toISOString(),
      curTime: now.getTime(),
      queue: { paused: false, working: 0, queue: [] },
      lastRefresh: new Date(this.startedAt).toISOString(),
      refreshErrors: 0,
      eventsListeners: [...this.listeners].map((listener) => listener.ident),
    };
  }
}

function respond(response: ServerResponse, code: number, body: string): void {
  response.writeHead(code, JSON_TYPE).end(body);
}

function knownOf(vm: JsonObject): KnownVm {
  const members = new Map<string, string>();
  for (const [name, value] of Object.entries(vm)) {
    if (value !== undefined) {
      members.set(name, JSON.stringify(value));
    }
  }
  const texts = [...members].map(([name, text]) => `${JSON.stringify(name)}:${text}`);
  return { text: `{${texts.join(',')}}`, members };
}

/** Of a VM the members with these names. */
function parsed({ members }: KnownVm, names: readonly string[]): JsonObject {
  const texts = [...members].filter(([name]) => names.includes(name));
  return Object.fromEntries(texts.map(([name, text]) => [name, JSON.parse(text)]));
}

function zonenameOf(vm: JsonObject): string {
  return String(own(vm, 'zonename') ?? own(vm, 'uuid'));
}

/*
 * What changed between two VM objects. Objects are compared name by name; arrays as sets of their elements,
 * so that a new order alone is not a change. Elements of `nics` and `disks` have an identity (`mac`,
 * `path`): two with the same one are compared inside. Pure.
 */

export interface ChangeRecord {
  readonly prettyPath: string;
  /** Null stands for some element of an array. */
  readonly path: readonly (string | null)[];
  readonly action: 'added' | 'removed' | 'changed';
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
  readonly ident?: string;
}

type Path = readonly (string | null)[];

/** What tells the elements of an array apart. */
const IDENTITY: ReadonlyMap<string, string> = new Map([
  ['nics', 'mac'],
  ['disks', 'path'],
]);

/** The changes as vminfod's `modify` event lists them. */
export function changesBetween(before: JsonObject, after: JsonObject): ChangeRecord[] {
  return objectChanges([], before, after, undefined);
}

function objectChanges(
  path: Path,
  before: JsonObject,
  after: JsonObject,
  ident: string | undefined,
): ChangeRecord[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].flatMap((name) => {
    const oldValue = own(before, name);
    const newValue = own(after, name);
    if (oldValue === newValue && oldValue !== undefined) {
      return [];
    }
    const at = [...path, name];
    if (!Object.hasOwn(before, name)) {
      return [record(at, { action: 'added', newValue }, ident)];
    }
    if (!Object.hasOwn(after, name)) {
      return [record(at, { action: 'removed', oldValue }, ident)];
    }
    return valueChanges(at, oldValue, newValue, ident);
  });
}

function valueChanges(
  path: Path,
  oldValue: unknown,
  newValue: unknown,
  ident: string | undefined,
): ChangeRecord[] {
  if (JSON.stringify(oldValue) === JSON.stringify(newValue)) {
    return [];
  }
  if (isJsonObject(oldValue) && isJsonObject(newValue)) {
    return objectChanges(path, oldValue, newValue, ident);
  }
  if (Array.isArray(oldValue) && Array.isArray(newValue)) {
    return arrayChanges(path, oldValue, newValue);
  }
  return [record(path, { action: 'changed', oldValue, newValue }, ident)];
}

function arrayChanges(path: Path, before: unknown[], after: unknown[]): ChangeRecord[] {
  const old = new Map(before.map((element) => [JSON.stringify(element), element]));
  const fresh = new Map(after.map((element) => [JSON.stringify(element), element]));
  const at = [...path, null];
  const removed = [...old].filter(([text]) => !fresh.has(text)).map(([, element]) => element);
  const added = [...fresh].filter(([text]) => !old.has(text)).map(([, element]) => element);
  const identity = IDENTITY.get(path[0] ?? '');
  const records: ChangeRecord[] = [];
  for (const oldValue of removed) {
    const ident = identOf(oldValue, identity);
    const twin = added.findIndex((element) => {
      return ident !== undefined && identOf(element, identity) === ident;
    });
    const newValue = added[twin];
    if (isJsonObject(oldValue) && isJsonObject(newValue)) {
      added.splice(twin, 1);
      records.push(...objectChanges(at, oldValue, newValue, ident));
    } else {
      records.push(record(at, { action: 'removed', oldValue }, ident));
    }
  }
  for (const newValue of added) {
    records.push(record(at, { action: 'added', newValue }, identOf(newValue, identity)));
  }
  return records;
}

function identOf(element: unknown, identity: string | undefined): string | undefined {
  const value =
    isJsonObject(element) && identity !== undefined ? own(element, identity) : undefined;
  return typeof value === 'string' ? value : undefined;
}

function record(
  path: Path,
  what: Pick<ChangeRecord, 'action' | 'oldValue' | 'newValue'>,
  ident: string | undefined,
): ChangeRecord {
  const prettyPath = path.map(prettyName).join('.');
  return { prettyPath, path, ...what, ...(ident === undefined ? {} : { ident }) };
}

function prettyName(name: string | null): string {
  if (name === null) {
    return '*';
  }
  return /[.[\]]/.test(name) ? `[${name}]` : name;
}
