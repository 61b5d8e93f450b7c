import assert from 'node:assert';
import fc from 'fast-check';
import {
  delegatedDatasets,
  delegateDatasetWord,
  delegationOf,
  importGrant,
  withoutImport,
} from '../../src/metadata/datasets';
import { sdcValue } from '../../src/metadata/sdc';
import type { Reply } from '../../src/protocol/reply';
import type { JsonObject } from '../../src/metadata/vm-data';
import { EMPTY_VM, memoryVm } from '../support/vm-data';

const SAFE: JsonObject = {
  zfs_filesystem: 'zones/a',
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

  it('answers true for a VM that lost one of the rules', () => {
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

  it('answers true for a dataset outside the tree of the zoneroot, where the limits are', () => {
    const outside: readonly JsonObject[] = [
      { ...SAFE, datasets: ['data/export/test'] },
      { ...SAFE, datasets: ['zones/a/data', 'data/export/test'] },
      { ...SAFE, datasets: ['zones/ab/data'] },
      { ...SAFE, datasets: ['zones'] },
      { ...SAFE, zfs_filesystem: undefined },
      { ...SAFE, zfs_filesystem: '' },
    ];
    for (const vm of outside) {
      assert.strictEqual(delegateDatasetWord(vm), 'true', JSON.stringify(vm));
    }
    assert.strictEqual(delegateDatasetWord({ ...SAFE, datasets: ['zones/a/b/c'] }), 'safe');
  });

  it('ignores a delegate_dataset in the VM object', () => {
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

  it('survives any VM object', () => {
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

function grant(value: unknown): string {
  return importGrant(value).kind;
}

function complaint(value: unknown): string {
  const read = importGrant(value);
  assert(read.kind === 'malformed', JSON.stringify(value));
  return read.text;
}

/** The set that the platform would make of a list that starts with a name, privilege by privilege. */
function slowSet(words: readonly string[]): Set<string> {
  const sets: Readonly<Record<string, readonly string[]>> = {
    default: ['sys_fs_import', 'proc_fork', 'net_access', 'sys_mount'],
    basic: ['proc_fork', 'net_access'],
    all: ['sys_fs_import', 'proc_fork', 'net_access', 'sys_mount', 'sys_time'],
    zone: ['sys_fs_import', 'proc_fork', 'net_access', 'sys_mount', 'sys_time'],
  };
  const result = new Set<string>();
  for (const word of words) {
    const removed = /^[!-]/.test(word);
    const name = word.replace(/^[!-]/, '');
    for (const privilege of sets[name] ?? [name]) {
      if (removed) {
        result.delete(privilege);
      } else {
        result.add(privilege);
      }
    }
  }
  return result;
}

const NAMES = ['default', 'basic', 'all', 'zone', 'sys_fs_import', 'proc_fork', 'sys_time'];
const wordArb = fc
  .tuple(fc.constantFrom('', '', '!', '-'), fc.constantFrom(...NAMES))
  .map(([sign, name]) => `${sign}${name}`);
const wordsArb = fc
  .tuple(fc.constantFrom(...NAMES), fc.array(wordArb, { maxLength: 6 }))
  .map(([first, rest]) => [first, ...rest]);

describe('privileges', () => {
  it('reads removals in both notations, and an array as the list with commas', () => {
    for (const removal of ['!sys_fs_import', '-sys_fs_import']) {
      assert.strictEqual(grant(`default,${removal},dtrace_user`), 'none');
      assert.strictEqual(grant(['default', removal, 'dtrace_user']), 'none');
    }
    assert.strictEqual(grant(['basic', '-proc_info']), 'none');
    assert.strictEqual(grant(['basic,sys_fs_import', '-proc_info']), 'named');
  });

  it('reads a name in any case, with its prefix, between blanks', () => {
    for (const name of [
      'SYS_FS_IMPORT',
      'priv_sys_fs_import',
      'PRIV_Sys_Fs_Import',
      ' sys_fs_import',
    ]) {
      assert.strictEqual(grant(`basic,${name}`), 'named', name);
      assert.strictEqual(grant(['basic', name]), 'named', name);
    }
    assert.strictEqual(grant('Default,!PRIV_SYS_FS_IMPORT'), 'none');
  });

  it('reads an empty list as default', () => {
    for (const nothing of [undefined, null, '', ' ', ',', ' , ,', []]) {
      assert.strictEqual(grant(nothing), 'default');
    }
  });

  it('distinguishes a grant by name from one that comes with default', () => {
    assert.strictEqual(grant('default'), 'default');
    assert.strictEqual(grant('default,-proc_info'), 'default');
    assert.strictEqual(grant('default,dtrace_user'), 'default');
    assert.strictEqual(grant('default,sys_fs_import'), 'named');
    assert.strictEqual(grant('all'), 'named');
    assert.strictEqual(grant('all,!proc_info'), 'named');
    assert.strictEqual(grant('zone'), 'named');
    assert.strictEqual(grant('basic,sys_fs_import'), 'named');
  });

  it('sees no grant in what leaves sys_fs_import out', () => {
    for (const list of [
      'basic',
      'basic,dtrace_user',
      'default,-sys_fs_import',
      'all,!sys_fs_import',
    ]) {
      assert.strictEqual(grant(list), 'none', list);
    }
    assert.strictEqual(grant('basic,sys_fs_import_x,sys_fs'), 'none');
  });

  it('applies the last item on a privilege', () => {
    assert.strictEqual(grant('default,-sys_fs_import,sys_fs_import'), 'named');
    assert.strictEqual(grant('default,sys_fs_import,!sys_fs_import'), 'none');
    assert.strictEqual(grant('default,-sys_fs_import,default'), 'default');
    assert.strictEqual(grant('default,-all,proc_fork'), 'none');
  });

  it('reads a list of removals alone as default without them', () => {
    assert.strictEqual(grant('-proc_info'), 'default');
    assert.strictEqual(grant('!sys_fs_import'), 'none');
  });

  it('agrees with the set that the list adds up to', () => {
    fc.assert(
      fc.property(wordsArb, (words) => {
        const holds = slowSet(words).has('sys_fs_import');
        assert.strictEqual(grant(words.join(',')) !== 'none', holds, words.join(','));
      }),
      { numRuns: 2000 },
    );
  });

  it('removes the privilege from every list, idempotently, and keeps what was written', () => {
    fc.assert(
      fc.property(wordsArb, (words) => {
        const text = words.join(',');
        const without = withoutImport(text);
        assert.strictEqual(without, `${text},-sys_fs_import`);
        assert.strictEqual(grant(without), 'none');
        assert.deepStrictEqual(withoutImport(words), [...words, '-sys_fs_import']);
      }),
    );
    for (const nothing of [undefined, null, '', ' , ', []]) {
      assert.strictEqual(withoutImport(nothing), 'default,-sys_fs_import');
    }
    assert.strictEqual(withoutImport('default, '), 'default,-sys_fs_import');
  });

  it('rejects what is not a list, each with its own text', () => {
    assert.match(complaint(7), /neither a text nor a list of texts/);
    assert.match(complaint(['default', 7]), /neither a text nor a list of texts/);
    assert.match(complaint({ default: true }), /neither a text nor a list of texts/);
    assert.match(complaint('default,!'), /"!" is no privilege/);
    assert.match(complaint('default,!!proc_info'), /"!!proc_info" is no privilege/);
    assert.match(complaint('default proc_info'), /"default proc_info" is no privilege/);
    assert.match(complaint("x';reboot"), /no privilege/);
    assert(complaint('!'.repeat(5000)).length < 200);
  });
});
