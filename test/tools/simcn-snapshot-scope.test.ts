import assert from 'node:assert';
import fc from 'fast-check';
import { auditVm, type AuditFacts } from '../../src/datasets/audit';
import { DEFAULT_POLICY, type ReasonCode, type SafePolicy } from '../../src/datasets/policy';
import {
  destroyedByReprovision,
  expandUpdate,
  snapshotScope,
} from '../../tools/simcn/dataset-operations';
import type { JsonObject } from '../../src/metadata/vm-data';
import { deepFrozen } from '../support/deep-frozen';

const OWNER = '9dce1460-0c4c-4417-ab8b-25ca478c5a78';
const PLAIN: JsonObject = {
  uuid: '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11',
  brand: 'joyent',
  owner_uuid: OWNER,
  limit_priv: 'default',
  zfs_filesystem: 'zones/5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11',
  datasets: ['zones/5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11/data'],
};
const SAFE: JsonObject = {
  ...PLAIN,
  limit_priv: 'default,-sys_fs_import',
  zfs_snapshot_limit: 128,
  zfs_filesystem_limit: 32,
};
const USED: AuditFacts = { usage: { snapshots: 100, filesystems: 5 } };

function accept(
  vm: JsonObject,
  update: unknown,
  facts: AuditFacts = {},
  policy = DEFAULT_POLICY,
): JsonObject {
  const result = expandUpdate(vm, update, policy, facts);
  assert(result.kind === 'accepted', JSON.stringify(result));
  return result.payload;
}

function codes(
  vm: JsonObject,
  update: unknown,
  facts: AuditFacts = {},
  policy = DEFAULT_POLICY,
): ReasonCode[] {
  const result = expandUpdate(vm, update, policy, facts);
  assert(result.kind === 'refused', JSON.stringify(result));
  return result.reasons.map(({ code }) => code);
}

/** Members that make another VM of it. */
const READ: ReadonlySet<string> = new Set([
  'delegate_dataset',
  'datasets',
  'brand',
  'hvm',
  'platform_buildstamp',
]);
const limitArb = fc.oneof(fc.nat(), fc.constantFrom(null, '', 'none', -1, 0.5));
const listArb = fc.constantFrom(
  ...['default', 'default,-proc_info', 'default,sys_fs_import', 'basic', 'all', '', '!', null, 7],
);
const updateArb = fc
  .tuple(
    fc.dictionary(
      fc.string().filter((name) => !READ.has(name)),
      fc.jsonValue(),
      { noNullPrototype: true },
    ),
    fc.record(
      { limit_priv: listArb, zfs_snapshot_limit: limitArb, zfs_filesystem_limit: limitArb },
      { requiredKeys: [] },
    ),
  )
  .map(([others, known]): JsonObject => ({ ...others, ...known }));

describe('policy for updates', () => {
  it('lets limits be raised, and lowered down to what is used', () => {
    const raised = { zfs_snapshot_limit: 1000, zfs_filesystem_limit: 64 };
    assert.deepStrictEqual(accept(SAFE, raised, USED), raised);
    const lowered = { zfs_snapshot_limit: 100, zfs_filesystem_limit: 5 };
    assert.deepStrictEqual(accept(SAFE, lowered, USED), lowered);
    assert.deepStrictEqual(accept(SAFE, { zfs_snapshot_limit: 0 }), { zfs_snapshot_limit: 0 });
  });

  it('refuses limits below what is used', () => {
    const below = { zfs_snapshot_limit: 99, zfs_filesystem_limit: 4 };
    const result = expandUpdate(SAFE, below, DEFAULT_POLICY, USED);
    assert(result.kind === 'refused');
    assert.deepStrictEqual(
      result.reasons.map(({ code, member }) => [code, member]),
      [
        ['limit-below-use', 'zfs_snapshot_limit'],
        ['limit-below-use', 'zfs_filesystem_limit'],
      ],
    );
    assert.match(result.reasons[0].text, /99, below the 100/);
  });

  it('refuses to remove limits, and limits that are not numbers', () => {
    assert.deepStrictEqual(codes(SAFE, { zfs_snapshot_limit: null }), ['limit-removed']);
    assert.deepStrictEqual(codes(SAFE, { zfs_filesystem_limit: '' }), ['limit-removed']);
    assert.deepStrictEqual(codes(SAFE, { zfs_filesystem_limit: 'none' }), ['limit-not-number']);
  });

  it('refuses to grant receive later', () => {
    for (const limit_priv of ['default,sys_fs_import', 'all', 'basic,priv_sys_fs_import']) {
      assert.deepStrictEqual(codes(SAFE, { limit_priv }), ['limit-priv-grants-import']);
    }
    assert.deepStrictEqual(codes(SAFE, { limit_priv: 7 }), ['limit-priv-malformed']);
  });

  it('adds the exclusion to a list that starts from default, or that is removed', () => {
    const list = (limit_priv: unknown): unknown => accept(SAFE, { limit_priv }).limit_priv;
    assert.strictEqual(list('default,-proc_info'), 'default,-proc_info,-sys_fs_import');
    assert.strictEqual(list(null), 'default,-sys_fs_import');
    assert.strictEqual(list(''), 'default,-sys_fs_import');
    assert.strictEqual(list('basic'), 'basic');
  });

  it('judges only what an update touches', () => {
    const unsafe = { ...SAFE, limit_priv: 'default', zfs_snapshot_limit: null };
    const update = { alias: 'db0', zfs_filesystem_limit: 64 };
    assert.deepStrictEqual(accept(unsafe, update), update);
    assert.deepStrictEqual(codes(unsafe, { zfs_filesystem_limit: null }), ['limit-removed']);
  });

  it('passes all updates of VMs that the rules are not for', () => {
    const update = { limit_priv: 'default,sys_fs_import', zfs_snapshot_limit: null };
    const off: SafePolicy = { ...DEFAULT_POLICY, enabled: false };
    const operators: SafePolicy = { ...DEFAULT_POLICY, plainOwners: [OWNER] };
    assert.deepStrictEqual(accept(PLAIN, update), update);
    assert.deepStrictEqual(accept({ ...SAFE, datasets: [] }, update), update);
    assert.deepStrictEqual(accept(SAFE, update, {}, off), update);
    assert.deepStrictEqual(accept(SAFE, update, {}, operators), update);
  });

  it('applies the rules to a VM that was safe before, even without its marks', () => {
    const last = auditVm(SAFE, DEFAULT_POLICY);
    const update = { limit_priv: 'default,sys_fs_import' };
    assert.deepStrictEqual(codes(PLAIN, update, { last }), ['limit-priv-grants-import']);
  });

  it('makes a plain dataset safe, leaving delegate_dataset out', () => {
    const made = accept(PLAIN, { delegate_dataset: 'safe', alias: 'db0' });
    assert.deepStrictEqual(made, {
      alias: 'db0',
      limit_priv: 'default,-sys_fs_import',
      zfs_snapshot_limit: 128,
      zfs_filesystem_limit: 32,
    });
    assert.strictEqual(auditVm({ ...PLAIN, ...made }, DEFAULT_POLICY, USED).kind, 'safe');
  });

  it('makes safe with what the VM has: its list, its limits, its use', () => {
    const vm = { ...PLAIN, limit_priv: 'default,-proc_info', zfs_snapshot_limit: 500 };
    const facts = { usage: { snapshots: 200, filesystems: 40 } };
    assert.deepStrictEqual(accept(vm, { delegate_dataset: 'safe' }, facts), {
      limit_priv: 'default,-proc_info,-sys_fs_import',
      zfs_snapshot_limit: 500,
      zfs_filesystem_limit: 40,
    });
    const ask = { delegate_dataset: 'safe', zfs_filesystem_limit: 39, limit_priv: 'all' };
    assert.deepStrictEqual(codes(vm, ask, facts), ['limit-priv-grants-import', 'limit-below-use']);
  });

  it('does not make safe what may not be', () => {
    const ask = { delegate_dataset: 'safe' };
    assert.deepStrictEqual(codes({ brand: 'joyent' }, ask), ['no-delegated-dataset']);
    assert.deepStrictEqual(codes({ ...PLAIN, brand: 'kvm' }, ask), ['hvm-brand']);
    const old = { platform: 'joyent_20150101T000000Z' };
    assert.deepStrictEqual(codes(PLAIN, ask, old), ['platform-too-old']);
    const named = { ...PLAIN, limit_priv: 'default,sys_fs_import' };
    assert.deepStrictEqual(codes(named, ask), ['limit-priv-grants-import']);
    const nobody: SafePolicy = { ...DEFAULT_POLICY, safeOwners: [] };
    assert.deepStrictEqual(codes(PLAIN, ask, {}, nobody), ['owner-not-allowed']);
    const off: SafePolicy = { ...DEFAULT_POLICY, enabled: false };
    assert.deepStrictEqual(codes(PLAIN, ask, {}, off), ['feature-off']);
  });

  it('refuses what is not an update', () => {
    for (const update of [undefined, null, [], 'safe', 7]) {
      assert.deepStrictEqual(codes(SAFE, update), ['payload-not-object']);
    }
    assert.deepStrictEqual(codes(SAFE, { delegate_dataset: 'SAFE' }), ['delegate-dataset-value']);
  });

  it('keeps a safe VM safe through every update that it accepts, idempotently', () => {
    fc.assert(
      fc.property(updateArb, (update) => {
        const result = expandUpdate(SAFE, deepFrozen(update), DEFAULT_POLICY);
        if (result.kind === 'refused') {
          return;
        }
        const unused = { usage: { snapshots: 0, filesystems: 0 } };
        const after = auditVm({ ...SAFE, ...result.payload }, DEFAULT_POLICY, unused);
        assert.strictEqual(after.kind, 'safe');
        assert.deepStrictEqual(accept(SAFE, result.payload), result.payload);
        assert.strictEqual(
          JSON.stringify({ ...result.payload, limit_priv: 0 }),
          JSON.stringify({ ...update, limit_priv: 0 }),
        );
      }),
      { numRuns: 1000 },
    );
  });
});

describe('scope of snapshots', () => {
  it('is the zoneroot, and leaves the delegated datasets as they are', () => {
    const vm = { brand: 'joyent', zfs_filesystem: 'zones/a', datasets: ['zones/a/data'] };
    assert.deepStrictEqual(snapshotScope(vm), {
      kind: 'zoneroot',
      dataset: 'zones/a',
      untouched: ['zones/a/data'],
    });
  });

  it('is refused for kvm guests, and no others', () => {
    const bhyve = snapshotScope({ brand: 'bhyve', zfs_filesystem: 'zones/a' });
    assert.strictEqual(bhyve.kind, 'zoneroot');
    for (const vm of [{ brand: 'kvm' }, { hvm: true }]) {
      const scope = snapshotScope({ ...vm, zfs_filesystem: 'zones/a' });
      assert(scope.kind === 'refused');
      assert.strictEqual(scope.reason.code, 'hvm-snapshot');
    }
  });

  it('is refused while the zoneroot is not known', () => {
    for (const vm of [{}, { zfs_filesystem: '' }, { zfs_filesystem: 7 }]) {
      const scope = snapshotScope({ brand: 'lx', ...vm });
      assert(scope.kind === 'refused');
      assert.strictEqual(scope.reason.code, 'zoneroot-unknown');
    }
  });

  it('of a reprovision is every snapshot of the zoneroot and none of the delegated dataset', () => {
    const snapshots = ['zones/a@vmsnap-1', 'zones/a@other', 'zones/a/data@vmsnap-1', 'zones/ab@1'];
    assert.deepStrictEqual(destroyedByReprovision('zones/a', snapshots), [
      'zones/a@vmsnap-1',
      'zones/a@other',
    ]);
  });
});
