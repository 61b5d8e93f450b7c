import assert from 'node:assert';
import fc from 'fast-check';
import {
  DEFAULT_POLICY,
  expandPayload,
  type Reason,
  type ReasonCode,
  type SafePolicy,
} from '../../src/datasets/policy';
import type { JsonObject } from '../../src/metadata/vm-data';
import { deepFrozen } from '../support/deep-frozen';

const OWNER = '9dce1460-0c4c-4417-ab8b-25ca478c5a78';
const OTHER = '930896af-bf8c-48d4-885c-6573a94b1853';
const OLD = 'joyent_20150417T235959Z';

function accept(payload: unknown, policy = DEFAULT_POLICY, platform?: string): JsonObject {
  const result = expandPayload(payload, policy, platform);
  assert(result.kind === 'accepted', JSON.stringify(result));
  return result.payload;
}

function refuse(payload: unknown, policy = DEFAULT_POLICY, platform?: string): readonly Reason[] {
  const result = expandPayload(payload, policy, platform);
  assert(result.kind === 'refused', JSON.stringify(result));
  return result.reasons;
}

/** The payload's only reason, with the code that is expected. */
function only(code: ReasonCode, payload: unknown, policy?: SafePolicy, platform?: string): Reason {
  const reasons = refuse(payload, policy, platform);
  const [reason] = reasons;
  assert(reason !== undefined);
  assert.deepStrictEqual(
    reasons.map((r) => r.code),
    [code],
  );
  return reason;
}

const safe = (members: JsonObject = {}): JsonObject => ({ delegate_dataset: 'safe', ...members });

/** JSON members of any name, those that rules read left out. */
const othersArb = fc
  .dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true })
  .map((members): JsonObject => {
    const read =
      /^(delegate_dataset|limit_priv|zfs_(snapshot|filesystem)_limit|brand|hvm|platform_buildstamp)$/;
    return Object.fromEntries(Object.entries(members).filter(([name]) => !read.test(name)));
  });

const limitArb = fc.nat();
const safeArb = fc
  .tuple(
    othersArb,
    fc.record(
      {
        limit_priv: fc.constantFrom(
          ...['', 'default', 'default,-proc_info', 'basic', 'all,!sys_fs_import', null],
          ...[['default', '!proc_info'], []],
        ),
        zfs_snapshot_limit: limitArb,
        zfs_filesystem_limit: limitArb,
        brand: fc.constantFrom('joyent', 'joyent-minimal', 'lx', 'builder'),
        platform_buildstamp: fc.constant('20260310T001234Z'),
      },
      { requiredKeys: [] },
    ),
  )
  .map(([others, known]) => safe({ ...others, ...known }));

describe('policy for payloads', () => {
  it('turns safe into a dataset, an exclusion and two limits', () => {
    assert.deepStrictEqual(accept({ brand: 'joyent', delegate_dataset: 'safe', quota: 10 }), {
      brand: 'joyent',
      delegate_dataset: true,
      quota: 10,
      limit_priv: 'default,-sys_fs_import',
      zfs_snapshot_limit: 128,
      zfs_filesystem_limit: 32,
    });
  });

  it('keeps the limits that the payload gives, zero too', () => {
    const given = accept(safe({ zfs_snapshot_limit: 0, zfs_filesystem_limit: 1000 }));
    assert.strictEqual(given.zfs_snapshot_limit, 0);
    assert.strictEqual(given.zfs_filesystem_limit, 1000);
    const one = accept(safe({ zfs_snapshot_limit: 500 }));
    assert.strictEqual(one.zfs_snapshot_limit, 500);
    assert.strictEqual(one.zfs_filesystem_limit, 32);
  });

  it('adds the exclusion to a list that starts from default', () => {
    const list = (limit_priv: unknown): unknown => accept(safe({ limit_priv })).limit_priv;
    assert.strictEqual(list('default'), 'default,-sys_fs_import');
    assert.strictEqual(list('default,-proc_info'), 'default,-proc_info,-sys_fs_import');
    assert.strictEqual(list('default,!proc_info'), 'default,!proc_info,-sys_fs_import');
    assert.strictEqual(list('default,dtrace_user'), 'default,dtrace_user,-sys_fs_import');
    assert.strictEqual(list(''), 'default,-sys_fs_import');
    assert.deepStrictEqual(list(['default']), ['default', '-sys_fs_import']);
  });

  it('keeps a list that grants no receive as it is', () => {
    for (const limit_priv of [
      'default,-sys_fs_import',
      'default,!sys_fs_import',
      'basic,dtrace_user',
      'all,!sys_fs_import',
      ['basic', 'net_access'],
    ]) {
      assert.deepStrictEqual(accept(safe({ limit_priv })).limit_priv, limit_priv);
    }
  });

  it('refuses a list that grants receive by name', () => {
    const lists = ['default,sys_fs_import', 'basic,PRIV_SYS_FS_IMPORT', 'all', 'zone,!proc_info'];
    for (const limit_priv of [...lists, ['basic', 'sys_fs_import']]) {
      const { member, text } = only('limit-priv-grants-import', safe({ limit_priv }));
      assert.strictEqual(member, 'limit_priv');
      assert(text.includes(JSON.stringify(limit_priv)), text);
      assert.match(text, /grants sys_fs_import/);
    }
  });

  it('refuses a malformed list', () => {
    const { text } = only('limit-priv-malformed', safe({ limit_priv: 'default,!' }));
    assert.match(text, /"!" is no privilege/);
    only('limit-priv-malformed', safe({ limit_priv: 7 }));
  });

  it('passes everything that is not safe unchanged', () => {
    for (const delegate_dataset of [true, false, 'true', 'false', null]) {
      const payload = { delegate_dataset, limit_priv: 'default,sys_fs_import', brand: 'kvm' };
      const off = { ...DEFAULT_POLICY, enabled: false };
      assert.deepStrictEqual(accept(payload, off, OLD), payload);
    }
    assert.deepStrictEqual(accept({ brand: 'bhyve' }), { brand: 'bhyve' });
    assert.deepStrictEqual(accept({}), {});
  });

  it('refuses other values of delegate_dataset', () => {
    for (const delegate_dataset of ['Safe', ' safe', 'yes', '', 1, [], ['safe'], { safe: true }]) {
      const { text } = only('delegate-dataset-value', { delegate_dataset });
      assert(text.includes(JSON.stringify(delegate_dataset)), text);
    }
  });

  it('refuses limits that are removed', () => {
    for (const nothing of [null, '', undefined]) {
      const { member, text } = only('limit-removed', safe({ zfs_snapshot_limit: nothing }));
      assert.strictEqual(member, 'zfs_snapshot_limit');
      assert.match(text, /128 is usual/);
    }
    assert.match(only('limit-removed', safe({ zfs_filesystem_limit: null })).text, /32 is usual/);
  });

  it('refuses limits that are not whole numbers', () => {
    for (const limit of [-1, 1.5, '128', 'none', true, [128], {}, 2 ** 53, NaN]) {
      only('limit-not-number', safe({ zfs_filesystem_limit: limit }));
    }
  });

  it('refuses HVM guests, by brand and by hvm', () => {
    assert.match(only('hvm-brand', safe({ brand: 'bhyve' })).text, /guests \(bhyve\)/);
    assert.match(only('hvm-brand', safe({ brand: 'kvm' })).text, /guests \(kvm\)/);
    assert.match(only('hvm-brand', safe({ hvm: true })).text, /guests \(hvm\)/);
    only('brand-not-text', safe({ brand: 7 }));
    for (const brand of ['joyent', 'joyent-minimal', 'lx', 'builder', 'another']) {
      accept(safe({ brand, hvm: false }));
    }
  });

  it('refuses platforms before the first that can host it, naming both stamps', () => {
    for (const [payload, platform] of [
      [safe(), OLD],
      [safe({ platform_buildstamp: '20150417T235959Z' }), undefined],
      [safe({ platform_buildstamp: '20150417T235959Z' }), 'joyent_20260310T001234Z'],
      [safe({ platform_buildstamp: '20260310T001234Z' }), OLD],
      [safe({ platform_buildstamp: '20150417T235959Z' }), OLD],
    ] as const) {
      const { text } = only('platform-too-old', payload, DEFAULT_POLICY, platform);
      assert(text.includes('20150417T235959Z') && text.includes('20150418T000000Z'), text);
    }
    accept(safe(), DEFAULT_POLICY, 'joyent_20150418T000000Z');
  });

  it('refuses a platform without a stamp, and does not judge an unknown one', () => {
    const { text } = only('platform-unreadable', safe(), DEFAULT_POLICY, 'omnios-r151048');
    assert.match(text, /"omnios-r151048" has no stamp/);
    only('platform-unreadable', safe({ platform_buildstamp: 7 }));
    accept(safe(), DEFAULT_POLICY, undefined);
  });

  it('is off as a whole with its switch', () => {
    const { text } = only('feature-off', safe(), { ...DEFAULT_POLICY, enabled: false });
    assert.match(text, /switched off/);
  });

  it('serves listed owners only, where there is a list', () => {
    const beta: SafePolicy = { ...DEFAULT_POLICY, safeOwners: [OWNER] };
    accept(safe({ owner_uuid: OWNER }), beta);
    accept(safe({ owner_uuid: OWNER.toUpperCase() }), beta);
    assert(only('owner-not-allowed', safe({ owner_uuid: OTHER }), beta).text.includes(OTHER));
    only('owner-missing', safe(), beta);
    only('owner-missing', safe({ owner_uuid: [OWNER] }), beta);
    const nobody: SafePolicy = { ...DEFAULT_POLICY, safeOwners: [] };
    only('owner-not-allowed', safe({ owner_uuid: OWNER }), nobody);
  });

  it('gives all reasons at once', () => {
    const payload = safe({
      brand: 'kvm',
      owner_uuid: OTHER,
      limit_priv: 'all',
      zfs_snapshot_limit: null,
      zfs_filesystem_limit: 'many',
    });
    const policy: SafePolicy = { ...DEFAULT_POLICY, safeOwners: [OWNER] };
    const codes = refuse(payload, policy, OLD).map(({ code }) => code);
    assert.deepStrictEqual(codes, [
      'hvm-brand',
      'owner-not-allowed',
      'platform-too-old',
      'limit-priv-grants-import',
      'limit-removed',
      'limit-not-number',
    ]);
  });

  it('names the kind of a payload that is not an object', () => {
    const texts = [undefined, null, [], 'safe', 7, true].map(
      (payload) => only('payload-not-object', payload).text,
    );
    assert.strictEqual(new Set(texts).size, texts.length);
    assert.match(texts[2] ?? '', /a list/);
  });

  it('cuts what it shows of a value', () => {
    const { text } = only('limit-priv-grants-import', safe({ limit_priv: 'all,'.repeat(9999) }));
    assert(text.length < 400);
  });

  it('leaves members that no rule reads untouched, in their places', () => {
    fc.assert(
      fc.property(othersArb, (others) => {
        const payload = { ...others, delegate_dataset: 'safe' };
        const result = accept(payload);
        const expected = {
          ...others,
          delegate_dataset: true,
          limit_priv: 'default,-sys_fs_import',
          zfs_snapshot_limit: 128,
          zfs_filesystem_limit: 32,
        };
        // As text: it shows the order too, and a member named __proto__.
        assert.strictEqual(JSON.stringify(result), JSON.stringify(expected));
      }),
    );
    const text = '{"__proto__":{"a":1},"delegate_dataset":"safe","b":2}';
    const odd = accept(JSON.parse(text));
    assert.strictEqual(
      JSON.stringify(odd),
      '{"__proto__":{"a":1},"delegate_dataset":true,"b":2,"limit_priv":"default,-sys_fs_import",' +
        '"zfs_snapshot_limit":128,"zfs_filesystem_limit":32}',
    );
  });

  it('is idempotent', () => {
    fc.assert(
      fc.property(safeArb, (payload) => {
        const once = accept(payload);
        assert.deepStrictEqual(accept(once), once);
        assert.deepStrictEqual(accept({ ...once, delegate_dataset: 'safe' }), once);
      }),
    );
  });

  it('changes no input, accepted or refused', () => {
    fc.assert(
      fc.property(fc.oneof(safeArb, othersArb, fc.jsonValue()), (payload) => {
        const before = JSON.stringify(payload);
        expandPayload(deepFrozen(payload), DEFAULT_POLICY, OLD);
        expandPayload(deepFrozen(payload), DEFAULT_POLICY);
        assert.strictEqual(JSON.stringify(payload), before);
      }),
    );
  });

  it('never throws and never reads an inherited member', () => {
    fc.assert(
      fc.property(fc.anything(), (payload) => {
        expandPayload(payload, DEFAULT_POLICY, OLD);
      }),
    );
    const inherited: unknown = Object.create({ delegate_dataset: 'safe' });
    assert.deepStrictEqual(expandPayload(inherited, DEFAULT_POLICY).kind, 'accepted');
    assert.strictEqual(Object.keys(accept(inherited)).length, 0);
  });
});

describe('platform stamps', () => {
  const code = (stamp: unknown, node?: string): string | undefined => {
    const payload = { delegate_dataset: 'safe', platform_buildstamp: stamp };
    const result = expandPayload(payload, DEFAULT_POLICY, node);
    return result.kind === 'refused' ? result.reasons[0]?.code : undefined;
  };

  it('are read from uname -v and from platform_buildstamp', () => {
    for (const text of ['joyent_20260310T001234Z', '20260310T001234Z']) {
      assert.strictEqual(code(undefined, `${text}\n`), undefined);
      assert.strictEqual(code(text), undefined);
    }
  });

  it('are not read from anything else', () => {
    for (const text of ['', 'omnios-r151048', '#1 SMP', 'joyent_2026', 'x20260310T001234Z']) {
      assert.strictEqual(code(text), 'platform-unreadable', text);
    }
    assert.strictEqual(code(20260310), 'platform-unreadable');
  });

  it('host a safe dataset from 20150418T000000Z on', () => {
    assert.strictEqual(code('20150418T000000Z'), undefined);
    assert.strictEqual(code('joyent_20150418T000001Z'), undefined);
    assert.strictEqual(code('joyent_20150417T235959Z'), 'platform-too-old');
  });
});
