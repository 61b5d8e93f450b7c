import assert from 'node:assert';
import fc from 'fast-check';
import { delegatedDatasets, delegateDatasetWord, delegationOf } from '../../src/metadata/datasets';
import { sdcValue } from '../../src/metadata/sdc';
import type { Reply } from '../../src/protocol/reply';
import type { JsonObject } from '../../src/metadata/vm-data';
import { EMPTY_VM, memoryVm } from '../support/vm-data';

const SAFE: JsonObject = {
  datasets: ['zones/a/data'],
  limit_priv: 'default,-sys_fs_import',
  zfs_snapshot_limit: 128,
  zfs_filesystem_limit: 32,
};

function ask(name: string, vm: JsonObject): Reply {
  const fixture = { ...EMPTY_VM, vm };
  return sdcValue(name, vm, memoryVm(fixture));
}

const NOTFOUND: Reply = { kind: 'notfound' };

describe('datasets of a guest', () => {
  it('answers sdc:datasets with the names as a compact JSON list', () => {
    const two = { ...SAFE, datasets: ['zones/a/data', 'zones/a/größe'] };
    assert.deepStrictEqual(ask('datasets', two), {
      kind: 'success',
      text: '["zones/a/data","zones/a/größe"]',
    });
    assert.deepStrictEqual(ask('datasets', { datasets: [] }), { kind: 'success', text: '[]' });
    assert.deepStrictEqual(ask('datasets', {}), NOTFOUND);
    assert.deepStrictEqual(ask('datasets', { datasets: 'zones/a/data' }), NOTFOUND);
    assert.deepStrictEqual(ask('datasets', { datasets: null }), NOTFOUND);
  });

  it('answers sdc:delegate_dataset with safe, true or NOTFOUND', () => {
    assert.deepStrictEqual(ask('delegate_dataset', SAFE), { kind: 'success', text: 'safe' });
    assert.deepStrictEqual(ask('delegate_dataset', { datasets: ['zones/a/data'] }), {
      kind: 'success',
      text: 'true',
    });
    assert.deepStrictEqual(ask('delegate_dataset', { datasets: [] }), NOTFOUND);
    assert.deepStrictEqual(ask('delegate_dataset', {}), NOTFOUND);
  });

  it('answers the limits as plain numbers', () => {
    assert.deepStrictEqual(ask('zfs_snapshot_limit', SAFE), { kind: 'success', text: '128' });
    assert.deepStrictEqual(ask('zfs_filesystem_limit', SAFE), { kind: 'success', text: '32' });
    assert.deepStrictEqual(ask('zfs_filesystem_limit', {}), NOTFOUND);
  });

  it('calls a VM that lost any of the rules what it is', () => {
    const broken: readonly JsonObject[] = [
      { ...SAFE, limit_priv: 'default' },
      { ...SAFE, limit_priv: 'all' },
      { ...SAFE, limit_priv: 7 },
      { ...SAFE, limit_priv: undefined },
      { ...SAFE, zfs_snapshot_limit: null },
      { ...SAFE, zfs_filesystem_limit: 'none' },
      { ...SAFE, zfs_filesystem_limit: -1 },
      { ...SAFE, zfs_snapshot_limit: 1.5 },
    ];
    for (const vm of broken) {
      assert.strictEqual(delegateDatasetWord(vm), 'true', JSON.stringify(vm));
    }
    assert.strictEqual(delegateDatasetWord({ ...SAFE, zfs_snapshot_limit: 0 }), 'safe');
  });

  it('takes no word of the VM object itself for it', () => {
    assert.deepStrictEqual(ask('delegate_dataset', { delegate_dataset: 'safe' }), NOTFOUND);
    const plain = { datasets: ['zones/a/data'], delegate_dataset: 'safe' };
    assert.strictEqual(delegateDatasetWord(plain), 'true');
  });

  it('reads own properties only, and names only', () => {
    const inherited: JsonObject = Object.create({ datasets: ['zones/a/data'] }) as JsonObject;
    assert.deepStrictEqual(delegatedDatasets(inherited), []);
    assert.deepStrictEqual(delegatedDatasets({ datasets: ['a', null, 7, {}, 'b'] }), ['a', 'b']);
    assert.strictEqual(delegationOf({ datasets: [7] }), undefined);
  });

  it('falls over no VM object, whatever is in it', () => {
    const anything = fc.anything();
    const vmArb = fc.record(
      {
        datasets: fc.oneof(anything, fc.array(fc.string())),
        limit_priv: fc.oneof(anything, fc.string(), fc.array(fc.string())),
        zfs_snapshot_limit: anything,
        zfs_filesystem_limit: anything,
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(vmArb, (vm) => {
        const word = delegateDatasetWord(vm);
        assert.strictEqual(word === undefined, delegatedDatasets(vm).length === 0);
      }),
    );
  });
});
