/*
 * A proxy between the agent and the node's vminfod that corrupts the objects of the attacked zones:
 * members null, of other types, missing, deep, named like those of the object prototype. Those of
 * healthy zones pass unchanged.
 */
import { createServer, request, type Server, type ServerResponse } from 'node:http';
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import {
  isJsonObject,
  own,
  ownString,
  parseJsonObject,
  type JsonObject,
} from '../../../src/metadata/vm-data';
import { Random } from '../random';

const HUGE = 'h'.repeat(300_000);
const DEEP: unknown = JSON.parse(`${'['.repeat(2000)}${']'.repeat(2000)}`);

const ODD: readonly [unknown, ...unknown[]] = [
  null,
  0,
  -1e308,
  true,
  '',
  'x',
  [],
  {},
  [null],
  [[[]]],
  { a: { b: null } },
  'nics[0]',
  ['', '..', '../..'],
  '../../etc',
  'socket,/../../../tmp/x',
  HUGE,
  [HUGE],
  DEEP,
  Array.from({ length: 5000 }, (_, n) => ({ n })),
  JSON.parse('{"__proto__":{"ip":"x"},"constructor":null}'),
];
const NAMES: readonly [string, ...string[]] = [
  'nics',
  'resolvers',
  'brand',
  'zonepath',
  'zone_state',
  'state',
  'init_restarts',
  'com2',
  'internal_metadata_namespaces',
  'customer_metadata',
  'internal_metadata',
  'tags',
  'routes',
  'datasets',
  'limit_priv',
  'docker',
  'uuid',
  'constructor',
  '__proto__',
  'toString',
  'zonename',
  'zoneid',
  'pid',
  'create_timestamp',
  'delegate_dataset',
  'owner_uuid',
  'alias',
];

export class CorruptingVminfod {
  /** The seed that corrupts the object of a zone; none: it passes unchanged. */
  readonly seeds = new Map<string, number>();
  private readonly streams = new Set<ServerResponse>();
  private readonly server: Server;

  /** @param upstream socket of the node's vminfod; @param path to be served on */
  constructor(
    private readonly upstream: string,
    private readonly path: string,
  ) {
    this.server = createServer((asked, response) => this.pass(asked.url ?? '/', response));
  }

  start(): Promise<void> {
    rmSync(this.path, { force: true });
    return new Promise((resolve) => this.server.listen(this.path, resolve));
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  /** Anything, on every stream. */
  say(bytes: Buffer): void {
    for (const stream of this.streams) {
      stream.write(bytes);
    }
  }

  private pass(path: string, response: ServerResponse): void {
    const asked = request({ socketPath: this.upstream, path, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 500);
      if (path.startsWith('/events')) {
        this.streams.add(response);
      }
      const lines = createInterface({ input: answer, crlfDelay: Infinity });
      lines.on('line', (line) => response.write(`${this.corruptLine(line)}\n`));
      // An interface hands on what its input fails with.
      lines.on('error', () => response.destroy());
      answer.on('error', () => response.destroy());
      lines.on('close', () => response.end());
    });
    asked.on('error', () => response.destroy());
    asked.end();
    // Written to while it closes.
    response.on('error', () => undefined);
    response.once('close', () => {
      this.streams.delete(response);
      asked.destroy();
    });
  }

  private corruptLine(line: string): string {
    const said = parseJsonObject(line);
    if (said === undefined) {
      return line;
    }
    const list = parseJsonObject(`{"of":${ownString(said, 'vms') ?? ''}}`)?.of;
    if (Array.isArray(list)) {
      const vms = list.map((vm: unknown) => this.corrupt(vm));
      return JSON.stringify({ ...said, vms: JSON.stringify(vms) });
    }
    return JSON.stringify(
      'vm' in said ? { ...said, vm: this.corrupt(own(said, 'vm')) } : this.corrupt(said),
    );
  }

  private corrupt(vm: unknown): unknown {
    const name = isJsonObject(vm) ? own(vm, 'zonename') : undefined;
    const seed = typeof name === 'string' ? this.seeds.get(name) : undefined;
    return isJsonObject(vm) && seed !== undefined ? corrupted(vm, new Random(seed)) : vm;
  }
}

function corrupted(vm: JsonObject, random: Random): JsonObject {
  const members = new Map<string, unknown>(Object.entries(vm));
  const count = random.below(6);
  for (let n = 0; n < count; n++) {
    const name = random.pick(NAMES);
    if (random.oneIn(4)) {
      members.delete(name);
    } else {
      members.set(name, random.pick(ODD));
    }
  }
  return Object.fromEntries(members);
}
