import assert from 'node:assert';
import { answer, VM_NOT_FOUND } from '../../src/metadata/handler';
import type { AnswerOptions } from '../../src/metadata/handler';
import type { VmData } from '../../src/metadata/vm-data';
import type { Reply } from '../../src/protocol/reply';
import type { DataRequest, Wire } from '../../src/protocol/request';
import { FIXTURE } from '../support/vm-fixture';
import { VERB_OPTIONS } from '../support/verb-options';
import { EMPTY_VM, memoryVm } from '../support/vm-data';

const wire: Wire = { version: 2, id: 'a1b2c3d4' };
const NOTFOUND: Reply = { kind: 'notfound' };
const STORED: Reply = { kind: 'success', text: 'OK', change: {} };
const NOT_LOADED: Reply = { kind: 'failure', text: 'VM data is not available yet.' };

const OPTIONS: AnswerOptions = {
  operatorScriptWritable: false,
  emptyValuesStored: false,
  ...VERB_OPTIONS,
  commaDeletes: true,
  onFault: (_zonename, _request, err) => assert.fail(String(err)),
};

function get(key: string): DataRequest {
  return { kind: 'get', wire, key };
}

function put(key: string, value = 'v'): DataRequest {
  return { kind: 'put', wire, key, value };
}

function remove(key: string): DataRequest {
  return { kind: 'delete', wire, key };
}

function refused(text: string): Reply {
  return { kind: 'failure', text };
}

describe('handler', () => {
  it('answers from memory at once', () => {
    const vm = memoryVm(FIXTURE);
    for (const request of [
      get('motd'),
      get('sdc:uuid'),
      get('nosuch'),
      { kind: 'keys', wire } as const,
    ]) {
      assert(!(answer(vm, request, OPTIONS) instanceof Promise));
    }
  });

  it('reads each class of key from its own map and never falls back to the other', () => {
    const vm = memoryVm(FIXTURE);
    const value = (key: string): unknown => answer(vm, get(key), OPTIONS);
    assert.deepStrictEqual(value('root_pw'), { kind: 'success', text: 's3cret' });
    assert.deepStrictEqual(value('docker:cmd'), { kind: 'success', text: '["sh"]' });
    assert.deepStrictEqual(value('docker:restartcount'), { kind: 'success', text: '3' });
    assert.deepStrictEqual(value('two words'), { kind: 'success', text: 'ok' });
    for (const key of ['hidden', 'operator-script', 'other_pw', 'docker:nosuch', 'constructor']) {
      assert.deepStrictEqual(value(key), NOTFOUND, key);
    }
  });

  it('answers plain and password keys though the VM object is not known', () => {
    const vm = memoryVm(FIXTURE, { kind: 'stored' }, false);
    assert.strictEqual((answer(vm, get('two words'), OPTIONS) as Reply).kind, 'success');
    assert.strictEqual((answer(vm, get('root_pw'), OPTIONS) as Reply).kind, 'success');
    assert.deepStrictEqual(answer(vm, get('nosuch'), OPTIONS), NOTFOUND);
  });

  it('lists keys without the VM object when no name has a colon', async () => {
    const plain = { ...EMPTY_VM, customer: { a: '1', b: '2' }, internal: { x_pw: '3', y: '4' } };
    const vm = memoryVm(plain, { kind: 'stored' }, false);
    assert.deepStrictEqual(answer(vm, { kind: 'keys', wire }, OPTIONS), {
      kind: 'success',
      text: Buffer.from('a\nb\nx_pw'),
    });
    const spaced = memoryVm({ ...plain, customer: { 'a:b': '1' } }, { kind: 'stored' }, false);
    assert.deepStrictEqual(await answer(spaced, { kind: 'keys', wire }, OPTIONS), NOT_LOADED);
  });

  it('waits for the VM object and never says NOTFOUND for what it does not know', async () => {
    const unknown = memoryVm(FIXTURE, { kind: 'stored' }, false);
    for (const request of [get('sdc:uuid'), get('docker:nosuch'), put('x:y'), remove('x:y')]) {
      assert.deepStrictEqual(await answer(unknown, request, OPTIONS), NOT_LOADED);
    }
    assert.deepStrictEqual(unknown.changes, []);
    const late: VmData = { ...unknown, loaded: () => Promise.resolve(FIXTURE.vm) };
    assert.deepStrictEqual(await answer(late, get('sdc:quota'), OPTIONS), {
      kind: 'success',
      text: '10',
    });
    assert.deepStrictEqual(await answer(late, get('docker:nosuch'), OPTIONS), NOTFOUND);
  });

  it('lists nothing as an empty success', () => {
    const reply = answer(memoryVm(EMPTY_VM), { kind: 'keys', wire }, OPTIONS);
    assert.deepStrictEqual(reply, { kind: 'success', text: Buffer.alloc(0) });
  });

  it("stores a change in the map of the key's class", async () => {
    const vm = memoryVm(FIXTURE);
    for (const request of [
      put('colour', 'blue'),
      put('x:y_pw', 'p'),
      put('x:y', 'p'),
      put('sdc', 'p'),
      remove('motd'),
      remove('root_pw'),
      remove('a,b'),
    ]) {
      assert.deepStrictEqual(await answer(vm, request, OPTIONS), STORED);
    }
    assert.deepStrictEqual(vm.changes, [
      { kind: 'set', map: 'customer', key: 'colour', value: 'blue' },
      { kind: 'set', map: 'internal', key: 'x:y_pw', value: 'p' },
      { kind: 'set', map: 'customer', key: 'x:y', value: 'p' },
      { kind: 'set', map: 'customer', key: 'sdc', value: 'p' },
      { kind: 'remove', map: 'customer', key: 'motd' },
      { kind: 'remove', map: 'internal', key: 'root_pw' },
      { kind: 'remove', map: 'customer', key: 'a,b' },
    ]);
  });

  it('refuses a write in the words of the specification, before anything is stored', () => {
    const vm = memoryVm(FIXTURE);
    for (const make of [put, remove]) {
      const reply = (key: string): unknown => answer(vm, make(key), OPTIONS);
      assert.deepStrictEqual(reply('sdc:uuid'), refused('Cannot update the "sdc" Namespace.'));
      assert.deepStrictEqual(reply('sdc:'), refused('Cannot update the "sdc" Namespace.'));
      assert.deepStrictEqual(
        reply('docker:x_pw'),
        refused('Cannot update the "docker" Namespace.'),
      );
    }
    assert.deepStrictEqual(
      answer(vm, put('operator-script'), OPTIONS),
      refused('Cannot update the "operator-script" Key.'),
    );
    assert.deepStrictEqual(vm.changes, []);
  });

  it('keeps docker: read-only where a docker VM lost its list of namespaces', async () => {
    const lost = { ...FIXTURE, vm: {} };
    const docker = { ...EMPTY_VM, vm: { docker: true } };
    for (const fixture of [lost, docker]) {
      const vm = memoryVm(fixture);
      for (const request of [put('docker:cmd'), remove('docker:cmd')]) {
        const reply = answer(vm, request, OPTIONS);
        assert.deepStrictEqual(reply, refused('Cannot update the "docker" Namespace.'));
      }
      assert.deepStrictEqual(vm.changes, []);
    }
    const other = memoryVm(EMPTY_VM);
    assert.deepStrictEqual(await answer(other, put('docker:cmd'), OPTIONS), STORED);
  });

  it("removes the operator's script from the internal map, as run-once scripts do at their end", async () => {
    const vm = memoryVm(FIXTURE);
    assert.deepStrictEqual(await answer(vm, remove('operator-script'), OPTIONS), STORED);
    assert.deepStrictEqual(vm.changes, [
      { kind: 'remove', map: 'internal', key: 'operator-script' },
    ]);
  });

  it('refuses an empty value, and stores it where that is wanted', async () => {
    const vm = memoryVm(FIXTURE);
    for (const key of ['ssh_host_dsa_key', 'root_pw']) {
      const reply = answer(vm, put(key, ''), OPTIONS);
      assert.deepStrictEqual(reply, refused('Empty values are not stored.'));
    }
    assert.deepStrictEqual(vm.changes, []);
    const options = { ...OPTIONS, emptyValuesStored: true };
    assert.deepStrictEqual(await answer(vm, put('note', ''), options), STORED);
    assert.deepStrictEqual(vm.changes, [{ kind: 'set', map: 'customer', key: 'note', value: '' }]);
  });

  it('removes every stored key, with control characters or outer white space in it too', async () => {
    const vm = memoryVm(FIXTURE);
    const keys = ['a\nb', '\u0007_pw', '\u00a0motd', '\ufeffmotd', 'k'.repeat(100_000)];
    for (const key of keys) {
      assert.deepStrictEqual(await answer(vm, remove(key), OPTIONS), STORED);
    }
    assert.deepStrictEqual(
      vm.changes.map((change) => change.key),
      keys,
    );
  });

  it("stores the operator's script in the internal map where that is configured", async () => {
    const vm = memoryVm(FIXTURE);
    const options = { ...OPTIONS, operatorScriptWritable: true };
    assert.deepStrictEqual(await answer(vm, put('operator-script'), options), STORED);
    assert.deepStrictEqual(vm.changes, [
      { kind: 'set', map: 'internal', key: 'operator-script', value: 'v' },
    ]);
  });

  it('refuses to remove a key with a comma where the writer cannot', () => {
    const vm = memoryVm(FIXTURE);
    const options = { ...OPTIONS, commaDeletes: false };
    assert.deepStrictEqual(
      answer(vm, remove('a,b'), options),
      refused('Cannot delete a key that contains a comma.'),
    );
    assert.deepStrictEqual(vm.changes, []);
    assert(answer(vm, put('a,b'), options) instanceof Promise);
  });

  it('reads nothing for WATCH and GETALL of a long file until it is their turn, and GET and KEYS need none', async () => {
    const turns: { readonly zonename: string; readonly bytes: number; begin(): Promise<void> }[] =
      [];
    const options = {
      ...OPTIONS,
      withRoom: <T>(zonename: string, bytes: number, work: () => Promise<T>): Promise<T> =>
        new Promise((resolve, reject) => {
          turns.push({ zonename, bytes, begin: () => work().then(resolve, reject) });
        }),
    };
    let loads = 0;
    const vm = memoryVm(FIXTURE);
    const file = (fileBytes: number): VmData => ({
      ...vm,
      fileBytes: () => fileBytes,
      load: () => {
        loads++;
        return vm;
      },
    });
    const requests: DataRequest[] = [
      { kind: 'getall', wire },
      { kind: 'watch', wire, seconds: 1, token: '-', keys: null },
      { kind: 'watch', wire, seconds: 1, token: '-', keys: ['motd'] },
    ];
    for (const request of requests) {
      loads = 0;
      const reply = answer(file(20_000), request, options);
      assert.strictEqual(loads, 0);
      const turn = turns.pop();
      assert.strictEqual(turn?.zonename, vm.zonename);
      assert.strictEqual(turn.bytes, 80_000);
      await turn.begin();
      assert.deepStrictEqual(await reply, await answer(file(8192), request, options));
    }
    assert(!(answer(file(20_000), { kind: 'keys', wire }, options) instanceof Promise));
    assert(!(answer(file(20_000), get('motd'), options) instanceof Promise));
    assert.deepStrictEqual(turns, []);
  });

  it('reads nothing for a request whose client is gone when its turn comes, and reports no fault', async () => {
    const turns: (() => Promise<void>)[] = [];
    const options = {
      ...OPTIONS,
      withRoom: <T>(_zonename: string, _bytes: number, work: () => Promise<T>): Promise<T> =>
        new Promise((resolve, reject) => {
          turns.push(() => work().then(resolve, reject));
        }),
      onFault: () => assert.fail('no fault'),
    };
    const vm: VmData = {
      ...memoryVm(FIXTURE),
      fileBytes: () => 20_000,
      load: () => assert.fail('nothing is read'),
    };
    let isThere = true;
    const reply = answer(vm, { kind: 'getall', wire }, options, () => isThere);
    isThere = false;
    await turns.pop()?.();
    assert.deepStrictEqual(await reply, refused('Internal error.'));
  });

  it('answers the reason of a failed change, and records the limit that was met', async () => {
    const vm = memoryVm(FIXTURE, { kind: 'failed', text: 'Metadata is full.', limit: 'size' });
    assert.deepStrictEqual(await answer(vm, put('k'), OPTIONS), {
      ...refused('Metadata is full.'),
      change: { limit: 'size' },
    });
  });

  it('answers FAILURE to a request that meets a fault of ours, and reports the fault', async () => {
    const faults: unknown[] = [];
    const options = {
      ...OPTIONS,
      onFault: (_: string, __: DataRequest, err: unknown) => faults.push(err),
    };
    const fault = new Error('broken');
    const broken = (): never => {
      throw fault;
    };
    const vm = memoryVm(FIXTURE, { kind: 'stored' }, false);
    const cases: [VmData, DataRequest][] = [
      [{ ...vm, metadata: broken }, get('motd')],
      [
        { ...vm, metadata: broken },
        { kind: 'keys', wire },
      ],
      [{ ...vm, vm: broken }, get('sdc:uuid')],
      [{ ...vm, loaded: () => Promise.reject(fault) }, get('sdc:uuid')],
      [{ ...vm, loaded: () => Promise.resolve({}), routes: broken }, get('sdc:routes')],
      [{ ...vm, change: broken }, put('k')],
      [{ ...vm, change: () => Promise.reject(fault) }, put('k')],
    ];
    for (const [data, request] of cases) {
      assert.deepStrictEqual(await answer(data, request, options), refused('Internal error.'));
    }
    assert.deepStrictEqual(
      faults,
      cases.map(() => fault),
    );
  });

  it('answers FAILURE for a VM that is gone', () => {
    assert.deepStrictEqual(VM_NOT_FOUND, refused('VM not found'));
  });
});
