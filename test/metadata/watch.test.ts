import assert from 'node:assert';
import { answer } from '../../src/metadata/handler';
import {
  type MetadataMaps,
  type VmData,
  parseJsonObject,
  type JsonObject,
} from '../../src/metadata/vm-data';
import type { DataRequest } from '../../src/protocol/request';
import { Tokens } from '../../src/metadata/watch';
import { VERB_OPTIONS } from '../support/verb-options';
import { EMPTY_VM, memoryVm } from '../support/vm-data';
import type { VmFixture } from '../support/vm-fixture';

const WIRE = { version: 2, id: '1' } as const;
const OPTIONS = {
  operatorScriptWritable: false,
  emptyValuesStored: false,
  commaDeletes: true,
  ...VERB_OPTIONS,
  onFault: (_zonename: string, _request: DataRequest, err: unknown): void => {
    throw err;
  },
};

type Fixture = Partial<Pick<VmFixture, 'customer' | 'internal' | 'vm' | 'tags' | 'routes'>>;

/** Like the files of a VM that are too long to be kept: each value is read by a promise. */
function onDisk(vm: VmData): VmData & { reads: number } {
  const source = {};
  const maps: MetadataMaps = { ...vm.metadata(), onDisk: source };
  const far = {
    ...vm,
    reads: 0,
    metadata: () => maps,
    load: ({ key }: { readonly key: string | null }): VmData | Promise<VmData> => {
      if (key === null) {
        return far;
      }
      far.reads++;
      return Promise.resolve(far);
    },
  };
  return far;
}

async function ask(data: VmData, request: DataRequest, options = OPTIONS): Promise<string> {
  const reply = await answer(data, request, options);
  assert(reply.kind !== 'notfound', reply.kind);
  return reply.text.toString();
}

function watch(data: VmData, keys: readonly string[] | null): Promise<string> {
  return ask(data, { kind: 'watch', wire: WIRE, seconds: 1, token: '-', keys });
}

function vmOf(fixture: Fixture): VmData {
  return memoryVm({ ...EMPTY_VM, ...fixture });
}

async function all(data: VmData, options = OPTIONS): Promise<JsonObject> {
  const text = await ask(data, { kind: 'getall', wire: WIRE }, options);
  const parsed = parseJsonObject(text);
  assert(parsed !== undefined, text);
  return parsed;
}

describe('a token', () => {
  it('is the same for the same answers, and another for any other answer', async () => {
    const fixtures: Fixture[] = [
      { customer: {} },
      { customer: { k: '' } },
      { customer: { k: 'v' } },
      { customer: { k: 'v', l: 'v' } },
      { customer: { k: 'vv' } },
      { customer: { k: { a: 1 } } },
      { customer: { kv: '' } },
      { customer: { l: 'v' } },
      { customer: { k: false } },
      { internal: { x_pw: 'v' } },
    ];
    const seen = new Set<string>();
    for (const fixture of fixtures) {
      const token = await watch(vmOf(fixture), ['k', 'kv', 'l', 'x_pw']);
      assert.match(token, /^[0-9a-f]{32}$/);
      assert.strictEqual(await watch(vmOf(fixture), ['k', 'kv', 'l', 'x_pw']), token);
      assert.strictEqual(await watch(onDisk(vmOf(fixture)), ['k', 'kv', 'l', 'x_pw']), token);
      seen.add(token);
    }
    assert.strictEqual(seen.size, fixtures.length);
    const numbers = await watch(vmOf({ customer: { k: 5, n: null } }), ['k', 'n']);
    assert.strictEqual(await watch(vmOf({ customer: { k: '5' } }), ['k', 'n']), numbers);
  });

  it('is another one on another node', async () => {
    const tokens = new Tokens(Buffer.alloc(32, 1), () => Promise.resolve());
    const fixture = { customer: { k: 'v' } };
    const request: DataRequest = { kind: 'watch', wire: WIRE, seconds: 1, token: '-', keys: null };
    const there = await ask(vmOf(fixture), request, { ...OPTIONS, tokens });
    assert.notStrictEqual(there, await watch(vmOf(fixture), null));
  });

  it('covers sdc: names, tags and routes as a GET does', async () => {
    const keys = ['sdc:alias', 'sdc:tags.role', 'sdc:vnc_password'];
    const token = await watch(vmOf({ vm: { alias: 'a' } }), keys);
    assert.notStrictEqual(await watch(vmOf({ vm: { alias: 'b' } }), keys), token);
    assert.notStrictEqual(
      await watch(vmOf({ vm: { alias: 'a' }, tags: { role: 'db' } }), keys),
      token,
    );
    // What a guest is not told is in no token.
    assert.strictEqual(await watch(vmOf({ vm: { alias: 'a', vnc_password: 'x' } }), keys), token);
  });

  it('of all keys is of what KEYS lists, from wherever the namespaces let them come', async () => {
    const fixture = { customer: { a: '1', 'ns:x': 'c' }, internal: { a_pw: '2', 'ns:x': 'i' } };
    const plain = await watch(vmOf(fixture), null);
    const named = await watch(
      vmOf({ ...fixture, vm: { internal_metadata_namespaces: ['ns'] } }),
      null,
    );
    assert.notStrictEqual(plain, named);
    const vm = vmOf(fixture);
    assert.strictEqual(await watch(vm, ['a', 'a_pw', 'ns:x']), await watch(vm, null));
    const one = memoryVm({ ...EMPTY_VM, ...fixture });
    const before = await watch(one, null);
    const later = { ...one, vm: () => ({ internal_metadata_namespaces: ['ns'] }) };
    assert.notStrictEqual(await watch(later, null), before);
  });

  it('is made once for all who ask while the file is the same', async () => {
    const vm = onDisk(vmOf({ customer: { long: 'x'.repeat(300_000), short: 'y' } }));
    const tokens = await Promise.all(Array.from({ length: 64 }, () => watch(vm, null)));
    assert.strictEqual(new Set(tokens).size, 1);
    const { reads } = vm;
    assert.strictEqual(reads, 2);
    await watch(vm, ['long']);
    await watch(vm, ['long', 'sdc:uuid']);
    await watch(vm, ['long', 'sdc:alias', 'short']);
    assert(vm.reads <= 8, `${vm.reads}`);
  });

  it('is made anew where it could not be made before', async () => {
    const vm = onDisk(vmOf({ customer: { long: 'x'.repeat(300_000) } }));
    const token = await watch(onDisk(vmOf({ customer: { long: 'x'.repeat(300_000) } })), null);
    const broken = {
      ...vm,
      load: ({ key }: { readonly key: string | null }): VmData | Promise<VmData> =>
        key === null ? broken : Promise.reject(new Error('EIO')),
    };
    const faults: unknown[] = [];
    const options = { ...OPTIONS, onFault: (...[, , err]: unknown[]) => void faults.push(err) };
    const request: DataRequest = { kind: 'watch', wire: WIRE, seconds: 1, token: '-', keys: null };
    const texts = await Promise.all([1, 2].map(() => ask(broken, request, options)));
    assert.deepStrictEqual(texts, ['Internal error.', 'Internal error.']);
    assert.strictEqual(await watch(vm, null), token);
  });
});

describe('GETALL', () => {
  it('returns what KEYS and GET return, in the order of KEYS', async () => {
    const customer = {
      b: 'x"\u0000\ud83d\ude00',
      a: '1',
      n: 5,
      '': 'no',
      o: {},
      z: null,
      'sdc:q': 'no',
    };
    for (const vm of [vmOf({ customer }), onDisk(vmOf({ customer }))]) {
      const { token, metadata, sdc } = await all(vm);
      assert.strictEqual(
        JSON.stringify(metadata),
        JSON.stringify({ b: customer.b, a: '1', n: '5' }),
      );
      assert.strictEqual(token, await watch(vm, null));
      assert.deepStrictEqual(sdc, { routes: '[]' });
    }
  });

  it('keeps long values whole, wherever they are cut', async () => {
    const customer = {
      long: '\ud83d\ude00"\\\n'.repeat(50_001),
      odd: `x${'\ud83d\ude00'.repeat(70_000)}`,
    };
    assert.deepStrictEqual((await all(vmOf({ customer }))).metadata, customer);
  });

  it('has the well-known names that exist, and none that is denied', async () => {
    const vm = { uuid: 'u', alias: 'a', quota: 10, nics: [], vnc_password: 'secret', other: 'x' };
    const internal = { 'operator-script': '#!/bin/sh', hidden: 'secret' };
    const { metadata, sdc } = await all(vmOf({ vm, internal }));
    assert.deepStrictEqual(metadata, {});
    assert.deepStrictEqual(sdc, {
      ...{ uuid: 'u', alias: 'a', nics: '[]', routes: '[]', 'operator-script': '#!/bin/sh' },
      quota: '10',
    });
  });

  it('is refused where it is too large: before a value is read, or after it where that shows late', async () => {
    const customer = { a: 'x'.repeat(1000) };
    const options = { ...OPTIONS, replyBytes: 900 };
    for (const replyBytes of [900, 1010]) {
      const vm = vmOf({ customer, vm: { alias: 'y'.repeat(100) } });
      const request: DataRequest = { kind: 'getall', wire: WIRE };
      assert.strictEqual(await ask(vm, request, { ...options, replyBytes }), 'Too large');
    }
    const few = vmOf({ customer: { a: 'x' }, vm: { alias: 'y' } });
    assert.deepStrictEqual((await all(few, options)).metadata, { a: 'x' });
  });

  it('is refused from the first byte over the limit on, whatever its characters take', async () => {
    for (const character of ['a', '"', '\u0001', 'é', '☃', '\u{1f600}']) {
      const vm = vmOf({ customer: { a: '', b: character.repeat(70_000), c: 'd' } });
      const bytes = Buffer.byteLength(await ask(vm, { kind: 'getall', wire: WIRE }));
      const within = await all(vm, { ...OPTIONS, replyBytes: bytes });
      assert.deepStrictEqual(within.metadata, { a: '', b: character.repeat(70_000), c: 'd' });
      const request: DataRequest = { kind: 'getall', wire: WIRE };
      const less = { ...OPTIONS, replyBytes: bytes - 1 };
      assert.strictEqual(await ask(vm, request, less), 'Too large', character);
    }
  });

  it('has U+FFFD for a lone half of a surrogate pair, as a GET has', async () => {
    const vm = vmOf({ customer: { a: 'x\ud800y' } });
    assert.deepStrictEqual((await all(vm)).metadata, { a: 'x\ufffdy' });
  });

  it('waits for the VM object', async () => {
    const vm = memoryVm(EMPTY_VM, { kind: 'stored' }, false);
    const text = await ask(vm, { kind: 'getall', wire: WIRE });
    assert.strictEqual(text, 'VM data is not available yet.');
  });
});

describe('HELLO', () => {
  it('needs no data of the VM', async () => {
    const vm = memoryVm(EMPTY_VM, { kind: 'stored' }, false);
    const text = await ask(vm, { kind: 'hello', wire: WIRE });
    const { agent, version, limits } = parseJsonObject(text) ?? {};
    assert.deepStrictEqual([agent, version], ['mdatad', '1.2.3']);
    assert.match(JSON.stringify(limits), /"line":2097152,.*"value":117\d{4},/);
  });
});
