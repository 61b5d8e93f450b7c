/*
 * `mdatactl compare` against a second agent that is written here: it answers as the platform's agent does,
 * but for what a test has planted, and it notes what it was asked.
 */
import assert from 'node:assert';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { CompareReport } from '../../tools/mdatactl/compare';
import { documentedId, whyNotAsked, type ZoneData } from '../../tools/mdatactl/compare-differences';
import { isJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import type { Outcome } from '../../src/protocol/client';
import { CANARY } from '../support/canaries';
import { frame, readFrame } from '../support/frames';
import { eventually } from '../support/eventually';
import { needs } from '../support/pending';
import { runProgram, SimNode, whyNoNode, type Result } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
const ZONES = [zonenameOf(1), zonenameOf(2), zonenameOf(3)];
const [FIRST = ''] = ZONES;
const HVM_ZONE = zonenameOf(8);
const HALTED_ZONE = zonenameOf(9);
/** Asked of each zone: KEYS, the keys below, of which some are canaries, and the well-known names. */
const LISTED = ['canary', 'motd', 'admin:key', 'root_pw', 'docker:cmd'];
const WELL_KNOWN = 25;
const QUESTIONS = 1 + LISTED.length + WELL_KNOWN;
const METADATA = {
  tags: { role: 'db' },
  routes: { '10.3.0.1': 'nics[0]' },
  internal_metadata_namespaces: ['docker'],
  customer_metadata: { motd: '.hid\n..two', 'admin:key': 'na\u00efve \u2603' },
  internal_metadata: { 'docker:cmd': '["sh"]', 'operator-script': '#!/bin/sh\n' },
};

interface Answer {
  readonly code: string;
  readonly value?: string;
}
type Plant = (key: string, times: number) => Answer | undefined;

/** One zone's socket, answered by the rules of the platform's agent. */
class SecondAgent {
  plant: Plant = () => undefined;
  readonly asked: string[] = [];
  open = 0;
  mostOpen = 0;
  private readonly server: Server;

  constructor(path: string, vm: () => JsonObject) {
    this.server = createServer((socket) => this.serve(socket, vm));
    rmSync(path, { force: true });
    mkdirSync(dirname(path), { recursive: true });
    this.server.listen(path);
  }

  async ready(): Promise<void> {
    await once(this.server, 'listening');
  }

  stop(): Promise<unknown> {
    return new Promise((resolve) => this.server.close(resolve));
  }

  private serve(socket: Socket, vm: () => JsonObject): void {
    this.mostOpen = Math.max(this.mostOpen, ++this.open);
    socket.on('close', () => this.open--);
    socket.on('error', () => undefined);
    createInterface({ input: socket }).on('line', (line) => {
      if (line === '') {
        socket.write('invalid command\n');
      } else if (line === 'NEGOTIATE V2') {
        socket.write('V2_OK\n');
      } else {
        const { id, code, payload } = readFrame(`${line}\n`);
        const key = code === 'KEYS' ? code : payload.toString();
        this.asked.push(key);
        const times = this.asked.filter((each) => each === key).length;
        const { code: answered, value = '' } = this.plant(key, times) ?? answerOf(key, vm());
        socket.write(frame(id, answered, value));
      }
    });
  }
}

/** The rules of the platform's agent, for what is asked here. */
function answerOf(key: string, vm: JsonObject): Answer {
  const map = (name: string): JsonObject => (isJsonObject(vm[name]) ? vm[name] : {});
  const customer = map('customer_metadata');
  const internal = map('internal_metadata');
  const isInternal = (name: string): boolean => name.endsWith('_pw') || name.startsWith('docker:');
  const found = (value: unknown): Answer => {
    if (value === null) {
      throw new Error(`${key}: the platform's agent is dead`);
    }
    if (value === undefined) {
      return { code: 'NOTFOUND' };
    }
    return typeof value === 'object'
      ? { code: 'FAILURE' }
      : { code: 'SUCCESS', value: typeof value === 'string' ? value : JSON.stringify(value) };
  };
  const json = (value: unknown): Answer => ({ code: 'SUCCESS', value: JSON.stringify(value) });
  switch (key) {
    case 'KEYS': {
      const names = [
        ...Object.keys(customer).filter((name) => !isInternal(name)),
        ...Object.keys(internal).filter(isInternal),
      ];
      return { code: 'SUCCESS', value: names.join('\n') };
    }
    case 'sdc:nics':
    case 'sdc:resolvers':
      return json(vm[key.slice(4)]);
    case 'sdc:routes':
      return json([{ linklocal: true, dst: '10.3.0.1', gateway: '10.2.1.20' }]);
    case 'sdc:operator-script':
      return found(internal['operator-script']);
    case 'sdc:volumes':
      return found(internal['sdc:volumes']);
    default:
      return key.startsWith('sdc:')
        ? found(vm[key.slice(4)])
        : found((isInternal(key) ? internal : customer)[key]);
  }
}

describe('mdatactl compare', function () {
  this.timeout(120_000);
  let node: SimNode;
  const agents = new Map<string, SecondAgent>();

  before(async function () {
    needs(this, whyNoNode());
    const vms = [
      ...ZONES.map((zonename, n) => vmObject(zonename, { ...METADATA, alias: `web${n}` })),
      vmObject(HVM_ZONE, { brand: 'bhyve' }),
      vmObject(HALTED_ZONE, { zone_state: 'installed', state: 'stopped' }),
    ];
    node = await SimNode.start({ vms });
    for (const zonename of ZONES) {
      const path = node.path(`/var/zonecontrol/${zonename}/metadata.sock`);
      const agent = new SecondAgent(path, () => vmOf(zonename));
      await agent.ready();
      agents.set(zonename, agent);
    }
  });

  after(async () => {
    for (const agent of agents.values()) {
      await agent.stop();
    }
    await node.stop();
  });

  beforeEach(() => {
    for (const agent of agents.values()) {
      agent.plant = () => undefined;
      agent.asked.length = 0;
    }
  });

  let vms: JsonObject[] = [];

  function vmOf(zonename: string): JsonObject {
    return vms.find((vm) => vm.zonename === zonename) ?? {};
  }

  function agentOf(zonename: string): SecondAgent {
    return agents.get(zonename) ?? assert.fail();
  }

  async function compare(...flags: readonly string[]): Promise<Result> {
    const { status, stdout } = await node.run([node.path('/usr/sbin/vmadm'), 'lookup', '-j']);
    if (status === 0) {
      // `type` and `ram` are what only the command line adds.
      vms = (JSON.parse(stdout) as JsonObject[]).map((vm) => ({
        ...vm,
        type: undefined,
        ram: undefined,
      }));
    }
    const argv = [process.execPath, MDATACTL, 'compare', '--root', node.root, ...flags];
    return runProgram(argv, '', true);
  }

  async function report(...flags: readonly string[]): Promise<CompareReport & { exit: number }> {
    const { stdout, stderr, status } = await compare('--json', ...flags);
    assert(stdout.startsWith('{'), stderr);
    return { ...(JSON.parse(stdout) as CompareReport), exit: status };
  }

  it('finds every answer equal where both agents answer from the same data', async () => {
    const { exit, zones, questions, equal, undocumented, unanswered, documented } = await report();
    assert.deepStrictEqual([undocumented, unanswered], [[], []]);
    assert.deepStrictEqual([exit, zones], [0, ZONES.length]);
    assert.strictEqual(questions, ZONES.length * QUESTIONS);
    assert.strictEqual(equal, questions);
    assert.deepStrictEqual(documented, []);
    for (const agent of agents.values()) {
      assert.strictEqual(agent.mostOpen, 1);
      const keys = agent.asked.filter((key) => !key.startsWith('sdc:'));
      assert.deepStrictEqual(keys, ['KEYS', ...LISTED]);
    }
  });

  it('reports undocumented differences by zone, key and lengths, never a value', async () => {
    agentOf(FIRST).plant = (key) => {
      switch (key) {
        case 'sdc:alias':
          return { code: 'SUCCESS', value: `${CANARY}-planted` };
        case 'motd':
          return { code: 'NOTFOUND' };
        case 'sdc:quota':
          return { code: 'SUCCESS', value: '12' };
        default:
          return undefined;
      }
    };
    const { exit, undocumented, questions, equal } = await report();
    assert.strictEqual(exit, 2);
    assert.strictEqual(questions - equal, 3);
    const { zonename } = undocumented[0] ?? assert.fail();
    assert.strictEqual(zonename, FIRST);
    assert.deepStrictEqual(
      undocumented.map(({ key, theirs, ours }) => [key, theirs, ours]),
      [
        ['motd', { kind: 'notfound', length: null }, { kind: 'success', length: 10 }],
        [
          'sdc:alias',
          { kind: 'success', length: CANARY.length + 8 },
          { kind: 'success', length: 4 },
        ],
        ['sdc:quota', { kind: 'success', length: 2 }, { kind: 'notfound', length: null }],
      ],
    );
    const { status, stdout } = await compare();
    assert.strictEqual(status, 2);
    assert(!stdout.includes(CANARY));
    assert.match(stdout, /^undocumented +3 differences$/m);
    assert.match(
      stdout,
      new RegExp(`^  ${FIRST}  motd\n    theirs notfound, ours success, 10 bytes$`, 'm'),
    );
    assert.match(stdout, /do not install/);
  });

  it('names a list of keys in another order or with another name', async () => {
    agentOf(FIRST).plant = (key) => {
      return key === 'KEYS'
        ? { code: 'SUCCESS', value: [...LISTED].reverse().join('\n') }
        : undefined;
    };
    const { exit, undocumented } = await report();
    assert.deepStrictEqual([exit, undocumented.map(({ key }) => key)], [2, ['KEYS']]);
  });

  it('asks again for what changed between the two questions', async () => {
    agentOf(FIRST).plant = (key, times) => {
      return key === 'sdc:alias' && times < 3 ? { code: 'NOTFOUND' } : undefined;
    };
    const { exit, undocumented, equal, questions } = await report();
    assert.deepStrictEqual([exit, undocumented, equal], [0, [], questions]);
    assert.strictEqual(agentOf(FIRST).asked.filter((key) => key === 'sdc:alias').length, 3);
  });

  it('treats failures as equal whatever their text, and as different from a success', async () => {
    agentOf(FIRST).plant = (key) => (key === 'motd' ? { code: 'FAILURE', value: 'no' } : undefined);
    const { exit, undocumented } = await report();
    assert.deepStrictEqual([exit, undocumented.map(({ key }) => key)], [2, ['motd']]);
  });

  it('names a config file that is newer than the copy of vminfod by the id for it', async () => {
    await node.ok(['fault', 'vminfod.freeze', '--zone', FIRST]);
    const path = node.path(`/zones/${FIRST}/config/metadata.json`);
    const before = readFileSync(path, 'utf8');
    try {
      const maps = JSON.parse(before) as { customer_metadata: Record<string, string> };
      maps.customer_metadata.motd = 'changed beside vminfod';
      replace(path, JSON.stringify(maps));
      const { exit, documented, undocumented } = await report();
      assert.deepStrictEqual([exit, undocumented], [0, []]);
      assert(documented.some(({ key, id }) => key === 'motd' && id === 'vminfod-stale'));
      // A file that cannot be read is none that is newer.
      replace(path, 'garbage');
      const worse = await report();
      assert.strictEqual(worse.exit, 2);
      assert(worse.undocumented.some(({ key }) => key === 'motd'));
    } finally {
      replace(path, before);
      await node.ok(['fault', '--clear']);
    }
  });

  it('never asks for a value of null, which crashes the other agent', async () => {
    const path = node.path(`/zones/${FIRST}/config/metadata.json`);
    const before = readFileSync(path, 'utf8');
    const { customer_metadata, ...rest } = JSON.parse(before) as { customer_metadata: object };
    replace(
      path,
      JSON.stringify({ ...rest, customer_metadata: { ...customer_metadata, no: null } }),
    );
    try {
      await eventually(async () => {
        const { documented, exit, undocumented } = await report();
        assert.deepStrictEqual([exit, undocumented], [0, []]);
        return documented.some(({ key, id, theirs }) => key === 'no' && id === 'D5' && !theirs);
      }, 'the value of null is reported');
      assert(!agentOf(FIRST).asked.includes('no'));
    } finally {
      replace(path, before);
    }
  });

  it('goes on past a zone that does not answer, and fails where none does', async () => {
    const path = node.path(`/var/zonecontrol/${FIRST}/metadata.sock`);
    renameSync(path, `${path}.away`);
    try {
      const { exit, zones, unanswered } = await report();
      assert.deepStrictEqual([exit, zones], [0, ZONES.length - 1]);
      assert.match(unanswered[0]?.reason ?? '', /ENOENT/);
      const none = await compare('--sample', '1');
      assert.deepStrictEqual([none.status, none.stdout], [2, '']);
      assert.match(none.stderr, /no zone answers; .*ENOENT/);
    } finally {
      renameSync(`${path}.away`, path);
    }
  });

  it('asks only so many zones as a sample says', async () => {
    const { zones } = await report('--sample', '2');
    assert.strictEqual(zones, 2);
    assert.strictEqual((await compare('--sample', 'x')).status, 3);
  });

  it('says what is wrong where vminfod does not answer', async () => {
    await node.ok(['fault', 'vminfod.down']);
    const { status, stderr } = await compare();
    await node.ok(['fault', '--clear']);
    assert.strictEqual(status, 2);
    assert.match(stderr, /^mdatactl: GET \/events.*(ENOENT|ECONNREFUSED)/);
  });

  function replace(path: string, text: string): void {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  }
});

describe('what compare does not ask', () => {
  const get = (key: string) => ({ kind: 'get', wire: { version: 1 }, key }) as const;
  const keys = { kind: 'keys', wire: { version: 1 } } as const;
  const vm = {
    customer_metadata: { a: 'b', nothing: null },
    internal_metadata: { 'operator-script': null },
    routes: { x: 'y' },
    nics: [{ ip: '10.0.0.1' }],
    device: null,
    alias: 'web',
  };

  const rows: readonly [
    what: string,
    asked: ReturnType<typeof get> | typeof keys,
    JsonObject,
    string | null,
  ][] = [
    ['a property', get('sdc:alias'), vm, null],
    ['an absent property', get('sdc:vendor-data'), vm, null],
    ['a property that is null', get('sdc:device'), vm, 'D5'],
    ['a key', get('a'), vm, null],
    ['a key that is null', get('nothing'), vm, 'D5'],
    ['the keys', keys, vm, null],
    ['the keys of a VM without a map', keys, { ...vm, internal_metadata: undefined }, 'D6'],
    ['an operator script that is null', get('sdc:operator-script'), vm, 'D5'],
    ['volumes without a map', get('sdc:volumes'), { ...vm, internal_metadata: null }, 'D6'],
    ['the routes', get('sdc:routes'), vm, null],
    ['routes with a number', get('sdc:routes'), { ...vm, routes: { x: 1 } }, 'D6'],
    ['routes by a nic without text', get('sdc:routes'), { ...vm, nics: [{ ip: null }] }, 'D6'],
    ['anything by odd namespaces', get('a'), { ...vm, internal_metadata_namespaces: [1] }, 'D6'],
  ];
  for (const [what, request, object, id] of rows) {
    it(`${id === null ? 'asks for' : `leaves out (${id})`} ${what}`, () => {
      assert.strictEqual(whyNotAsked(request, object), id);
    });
  }
});

describe('the documented differences of compare', () => {
  const found = (text: string): Outcome => ({ kind: 'success', data: Buffer.from(text) });
  const notfound: Outcome = { kind: 'notfound' };
  const failure: Outcome = { kind: 'failure', text: '' };
  const vm = { one: [7], none: [], two: [1, 2] };

  const rows: readonly [id: string | null, key: string, theirs: Outcome, ours: Outcome][] = [
    ['D2', 'sdc:internal_metadata.hidden', found('x'), notfound],
    ['D2', 'sdc:internal_metadata', failure, notfound],
    ['D3', 'sdc:vnc_password', found('x'), notfound],
    ['D4', 'sdc:constructor', failure, notfound],
    ['D4', 'toString', failure, notfound],
    ['D27', 'sdc:one', found('7'), failure],
    ['D27', 'sdc:none', found(''), failure],
    ['D21', 'KEYS', found('a\nsdc:b\nc\u0007\n'), found('a')],
    [null, 'KEYS', found('a\nb'), found('a')],
    [null, 'sdc:two', found('1'), failure],
    [null, 'sdc:alias', failure, notfound],
    [null, 'sdc:alias', found('x'), notfound],
    [null, 'sdc:vnc_password', found('x'), found('y')],
  ];
  for (const [id, key, theirs, ours] of rows) {
    const what = `${theirs.kind} and ${ours.kind} for ${key}`;
    it(id === null ? `have none for ${what}` : `name ${what} ${id}`, async () => {
      const wire = { version: 1 } as const;
      const request =
        key === 'KEYS' ? { kind: 'keys' as const, wire } : { kind: 'get' as const, wire, key };
      const data = { vm, stale: null } as unknown as ZoneData;
      assert.strictEqual(await documentedId(request, data, theirs, ours), id);
    });
  }
});
