import assert from 'node:assert';
import fc from 'fast-check';
import {
  auditVm,
  DEFAULT_POLICY,
  expandPayload,
  type Audit,
  type AuditFacts,
  type Finding,
  type SafePolicy,
} from '../../src/datasets/policy';
import { delegateDatasetWord } from '../../src/metadata/datasets';
import type { JsonObject } from '../../src/metadata/vm-data';
import { deepFrozen } from '../support/deep-frozen';

const UUID = '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11';
const OWNER = '9dce1460-0c4c-4417-ab8b-25ca478c5a78';
const PLAIN: JsonObject = {
  uuid: UUID,
  brand: 'joyent',
  owner_uuid: OWNER,
  limit_priv: 'default',
  zfs_filesystem: `zones/${UUID}`,
  datasets: [`zones/${UUID}/data`],
};
const SAFE: JsonObject = {
  ...PLAIN,
  limit_priv: 'default,-sys_fs_import',
  zfs_snapshot_limit: 128,
  zfs_filesystem_limit: 32,
};
/** Nothing is used yet. */
const UNUSED: AuditFacts = { usage: { snapshots: 0, filesystems: 1 } };
const OPERATORS: SafePolicy = { ...DEFAULT_POLICY, plainOwners: [OWNER] };
const NO_OPERATORS: SafePolicy = { ...DEFAULT_POLICY, plainOwners: [] };

/** Of a VM that has a delegated dataset. */
function audited(vm: JsonObject, policy: SafePolicy, facts?: AuditFacts): Audit {
  const audit = auditVm(vm, policy, facts);
  assert(audit !== undefined, 'it is audited');
  return audit;
}

function findings(vm: JsonObject, facts?: AuditFacts, policy = DEFAULT_POLICY): readonly Finding[] {
  const audit = audited(vm, policy, facts);
  assert(audit.kind === 'unsafe', JSON.stringify(audit));
  return audit.findings;
}

function only(vm: JsonObject, facts?: AuditFacts, policy?: SafePolicy): Finding {
  const [first, ...others] = findings(vm, facts, policy);
  assert(first !== undefined && others.length === 0, JSON.stringify([first, ...others]));
  return first;
}

/** The update that a fix proposes. */
function updateIn(fix: string): JsonObject {
  const text = new RegExp(`vmadm update ${UUID} <<<'([^']+)'`).exec(fix)?.[1];
  assert(text !== undefined, fix);
  return JSON.parse(text) as JsonObject;
}

function kinds(audits: readonly Audit[]): readonly string[] {
  return audits.map(({ kind }) => kind);
}

describe('audit', () => {
  it('reports nothing for a VM without delegated datasets', () => {
    for (const vm of [{}, { datasets: [] }, { datasets: 'x' }, { limit_priv: 'all' }]) {
      assert.strictEqual(auditVm(vm, NO_OPERATORS), undefined);
    }
  });

  it('finds safe what provisioning made safe', () => {
    const result = expandPayload({ brand: 'joyent', delegate_dataset: 'safe' }, DEFAULT_POLICY);
    assert(result.kind === 'accepted');
    const { zfs_filesystem, datasets } = PLAIN;
    const vm = { ...result.payload, zfs_filesystem, datasets };
    assert.strictEqual(audited(vm, DEFAULT_POLICY, UNUSED).kind, 'safe');
    assert.strictEqual(audited(vm, NO_OPERATORS, UNUSED).kind, 'safe');
  });

  it('calls nothing safe whose usage could not be read', () => {
    const audit = audited(SAFE, DEFAULT_POLICY);
    assert.deepStrictEqual([audit.kind, audit.signature], ['unknown', 'unknown']);
    assert.strictEqual(audited(SAFE, DEFAULT_POLICY, { usage: undefined }).kind, 'unknown');
    assert.strictEqual(audited({ ...SAFE, limit_priv: 'all' }, DEFAULT_POLICY).kind, 'unsafe');
    assert.strictEqual(audited(PLAIN, DEFAULT_POLICY).kind, 'exempt');
  });

  it('finds a dataset outside the tree of the zoneroot, which has no limit, alone or beside others', () => {
    for (const datasets of [['data/export/test'], [`zones/${UUID}/data`, 'data/export/test']]) {
      const finding = only({ ...SAFE, datasets }, UNUSED);
      assert.strictEqual(finding.rule, 'dataset-outside');
      assert.strictEqual(finding.member, 'datasets');
      assert(finding.text.startsWith('"data/export/test" is outside'), finding.text);
    }
    const alike = { ...SAFE, datasets: [`zones/${UUID}x/data`] };
    assert.strictEqual(only(alike, UNUSED).rule, 'dataset-outside');
    const rootless = { ...SAFE, zfs_filesystem: null };
    assert.strictEqual(only(rootless, UNUSED).rule, 'zoneroot-unknown');
  });

  it('reports datasets, limits and use', () => {
    const audit = audited(SAFE, DEFAULT_POLICY, { usage: { snapshots: 3, filesystems: 1 } });
    assert(audit.kind === 'safe');
    assert.deepStrictEqual(audit.datasets, [`zones/${UUID}/data`]);
    assert.deepStrictEqual(audit.use, {
      zfs_snapshot_limit: { limit: 128, used: 3 },
      zfs_filesystem_limit: { limit: 32, used: 1 },
    });
    const unknown = audited(PLAIN, DEFAULT_POLICY);
    assert(unknown.kind === 'exempt');
    assert.deepStrictEqual(unknown.use.zfs_snapshot_limit, { limit: undefined, used: undefined });
  });

  it('finds a privilege that was granted later', () => {
    for (const limit_priv of ['default', 'default,sys_fs_import', 'all', '', undefined]) {
      const finding = only({ ...SAFE, limit_priv });
      assert.strictEqual(finding.rule, 'receive-granted');
      assert.strictEqual(finding.member, 'limit_priv');
      assert.match(finding.fix, /then reboot the zone/);
    }
    assert.strictEqual(only({ ...SAFE, limit_priv: 'default' }).value, '"default"');
  });

  it('finds a malformed privilege list', () => {
    assert.strictEqual(only({ ...SAFE, limit_priv: '!!' }).rule, 'privileges-unreadable');
    assert.strictEqual(only({ ...SAFE, limit_priv: { a: 1 } }).rule, 'privileges-unreadable');
  });

  it('finds limits that are missing or not numbers', () => {
    for (const limit of [undefined, null, 'none', -1, '128']) {
      const finding = only({ ...SAFE, zfs_snapshot_limit: limit });
      assert.strictEqual(finding.rule, 'limit-missing');
      assert.strictEqual(finding.member, 'zfs_snapshot_limit');
      assert.deepStrictEqual(updateIn(finding.fix), { zfs_snapshot_limit: 128 });
    }
    const finding = only({ ...SAFE, zfs_filesystem_limit: null });
    assert.deepStrictEqual(updateIn(finding.fix), { zfs_filesystem_limit: 32 });
  });

  it('finds a limit that does not hold, and only then', () => {
    const at = { usage: { snapshots: 128, filesystems: 32 } };
    assert.strictEqual(audited(SAFE, DEFAULT_POLICY, at).kind, 'safe');
    const over = only(SAFE, { usage: { snapshots: 129, filesystems: 32 } });
    assert.strictEqual(over.rule, 'limit-exceeded');
    assert.match(over.text, /129 are used of zfs_snapshot_limit 128/);
  });

  it('finds a platform that is too old, from either side, with both stamps', () => {
    const node = only(SAFE, { platform: 'joyent_20150101T000000Z' });
    const own = only({ ...SAFE, platform_buildstamp: '20150101T000000Z' });
    for (const { rule, text } of [node, own]) {
      assert.strictEqual(rule, 'platform-too-old');
      assert(text.includes('20150101T000000Z') && text.includes('20150418T000000Z'), text);
    }
  });

  it('finds a dataset of an HVM guest', () => {
    assert.strictEqual(only({ ...SAFE, brand: 'bhyve' }).rule, 'hvm-brand');
  });

  it('finds all at once', () => {
    const vm = { ...SAFE, limit_priv: 'all', zfs_snapshot_limit: null };
    const old = { platform: 'joyent_20150101T000000Z' };
    assert.deepStrictEqual(
      findings(vm, old).map(({ rule }) => rule),
      ['platform-too-old', 'receive-granted', 'limit-missing'],
    );
  });

  it('exempts a plain dataset, which bears no mark of safe', () => {
    for (const limit_priv of ['default', 'default,sys_fs_import', 'all', undefined]) {
      const audit = audited({ ...PLAIN, limit_priv }, DEFAULT_POLICY);
      assert(audit.kind === 'exempt');
      assert.strictEqual(audit.why, 'plain');
    }
  });

  it('exempts the zones of listed owners only', () => {
    const own = audited({ ...SAFE, limit_priv: 'all' }, OPERATORS);
    assert(own.kind === 'exempt' && own.why === 'owner');
    const rules = findings(PLAIN, {}, NO_OPERATORS).map(({ rule }) => rule);
    assert.deepStrictEqual(rules, ['receive-granted', 'limit-missing', 'limit-missing']);
    assert.strictEqual(audited({ ...PLAIN, owner_uuid: 7 }, OPERATORS).kind, 'unsafe');
  });

  it('makes no VM exempt that loses its last mark', () => {
    const first = audited(SAFE, DEFAULT_POLICY, UNUSED);
    const second = audited(PLAIN, DEFAULT_POLICY, { last: first });
    const third = audited(PLAIN, DEFAULT_POLICY, { last: second });
    const back = audited(SAFE, DEFAULT_POLICY, { ...UNUSED, last: third });
    assert.deepStrictEqual(kinds([first, second, third, back]), [
      'safe',
      'unsafe',
      'unsafe',
      'safe',
    ]);
  });

  it('exempts a VM again that was unsafe only for its owner', () => {
    const refused = audited(PLAIN, NO_OPERATORS);
    assert.strictEqual(refused.kind, 'unsafe');
    assert.strictEqual(audited(PLAIN, DEFAULT_POLICY, { last: refused }).kind, 'exempt');
  });

  it('has one signature for as long as nothing changes but use', () => {
    const broken = { ...SAFE, limit_priv: 'default', last_modified: 'a' };
    const signature = (vm: JsonObject, facts?: AuditFacts): string =>
      audited(vm, DEFAULT_POLICY, facts).signature;
    const used = { usage: { snapshots: 9, filesystems: 9 } };
    assert.strictEqual(
      signature(broken),
      signature({ ...broken, last_modified: 'b', alias: 'c' }, used),
    );
    const over = (snapshots: number): AuditFacts => ({ usage: { snapshots, filesystems: 0 } });
    assert.strictEqual(signature(SAFE, over(129)), signature(SAFE, over(130)));
    const different = [
      signature(PLAIN),
      signature(SAFE),
      signature(SAFE, UNUSED),
      signature(SAFE, over(129)),
      signature(broken),
      signature({ ...broken, limit_priv: 'all' }),
      signature({ ...broken, zfs_snapshot_limit: null }),
    ];
    assert.strictEqual(new Set(different).size, different.length);
  });

  it('proposes fixes that make the VM safe', () => {
    const vmArb = fc.record({
      limit_priv: fc.constantFrom(
        ...['default', 'default,-proc_info', 'basic', 'all', 'zone,!x', 'default,sys_fs_import'],
        ...['', '!!', ['default'], ['basic', 'sys_fs_import'], null, 7],
      ),
      zfs_snapshot_limit: fc.constantFrom(null, 5, 128, 'x'),
      zfs_filesystem_limit: fc.constantFrom(null, 5, 32),
    });
    const usageArb = fc.record({ snapshots: fc.nat(200), filesystems: fc.nat(60) });
    fc.assert(
      fc.property(vmArb, fc.option(usageArb, { nil: undefined }), (members, usage) => {
        const vm = deepFrozen({ ...PLAIN, ...members });
        const audit = audited(vm, NO_OPERATORS, { usage });
        assert.strictEqual(delegateDatasetWord(vm) === 'safe', !hasRuleFinding(audit));
        let fixed: JsonObject = vm;
        for (const { fix } of audit.kind === 'unsafe' ? audit.findings : []) {
          fixed = { ...fixed, ...updateIn(fix) };
        }
        const kind = usage === undefined ? 'unknown' : 'safe';
        assert.strictEqual(audited(fixed, NO_OPERATORS, { usage }).kind, kind);
      }),
    );
  });

  it('puts nothing into a fix that a shell would read', () => {
    const vm = { ...SAFE, uuid: "'; reboot; '", limit_priv: "x'; reboot; '" };
    const { fix } = only(vm);
    assert.strictEqual(fix, `vmadm update UUID <<<'{"limit_priv":"default,-sys_fs_import"}'`);
  });

  it('survives any VM object', () => {
    const vmArb = fc.dictionary(
      fc.constantFrom(
        ...['datasets', 'limit_priv', 'zfs_snapshot_limit', 'zfs_filesystem_limit', 'uuid'],
        ...['brand', 'hvm', 'owner_uuid', 'platform_buildstamp', 'zfs_filesystem'],
      ),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(vmArb, fc.array(fc.string(), { minLength: 1 }), (vm, datasets) => {
        auditVm(deepFrozen(vm), OPERATORS);
        audited(deepFrozen({ ...vm, datasets }), OPERATORS, { platform: 'joyent_' });
      }),
    );
  });
});

/** Use is judged by the audit, and no guest reads it. */
function hasRuleFinding(audit: Audit): boolean {
  return audit.kind === 'unsafe' && audit.findings.some(({ rule }) => rule !== 'limit-exceeded');
}
