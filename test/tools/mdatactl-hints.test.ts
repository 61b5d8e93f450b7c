import assert from 'node:assert';
import { hintFor, withHint } from '../../tools/mdatactl/hints';

describe('hints for keys that do not exist', () => {
  it('name the property that guides call otherwise', () => {
    const asked: Readonly<Record<string, string>> = {
      'sdc:account_uuid': 'sdc:owner_uuid',
      'sdc:datacenter': 'sdc:datacenter_name',
      'sdc:name': 'sdc:alias',
      'sdc:ip': 'sdc:nics.0.ip',
      'sdc:user-script': 'user-script',
    };
    for (const [key, hint] of Object.entries(asked)) {
      assert.strictEqual(hintFor(key), hint, key);
    }
  });

  it('name the nearest property where a name is misspelt', () => {
    const asked: Readonly<Record<string, string>> = {
      'sdc:hostnmae': 'sdc:hostname',
      'sdc:uid': 'sdc:uuid',
      'sdc:UUID': 'sdc:uuid',
      'sdc:ownr_uuid': 'sdc:owner_uuid',
      'sdc:resolver': 'sdc:resolvers',
      'sdc:dns-domain': 'sdc:dns_domain',
      'sdc:operator_script': 'sdc:operator-script',
      'sdc:max_physical_memry': 'sdc:max_physical_memory',
    };
    for (const [key, hint] of Object.entries(asked)) {
      assert.strictEqual(hintFor(key), hint, key);
    }
  });

  it('are none where nothing is near, or the name is right', () => {
    const keys = ['sdc:', 'sdc:vendor-data', 'sdc:hostname', 'sdc:routes', 'motd', 'account_uuid'];
    for (const key of [...keys, 'sdc:constructor', 'sdc:__proto__', `sdc:${'x'.repeat(100_000)}`]) {
      assert.strictEqual(hintFor(key), null, key.slice(0, 40));
    }
  });

  it('never name what no guest may read', () => {
    for (const name of ['vnc_password', 'vnc_passwrd', 'internal_metadata', 'qemu_optz']) {
      const hint = hintFor(`sdc:${name}`);
      assert.doesNotMatch(hint ?? '', /password|opts|sdc:internal_metadata$/, name);
    }
  });

  it('are added to records of a GET that found nothing, and to no others', () => {
    const record = { response: 'NOTFOUND', query: { cmd: 'GET', arg: 'sdc:datacenter' } };
    assert.deepStrictEqual(withHint(record), { ...record, hint: 'sdc:datacenter_name' });
    const found = { ...record, response: 'SUCCESS' };
    assert.deepStrictEqual(withHint(found), found);
    for (const query of [null, 'x', {}, { cmd: 'GET', arg: 7 }, { cmd: 'PUT', arg: 'sdc:uid' }]) {
      const other = { ...record, query };
      assert.deepStrictEqual(withHint(other), other);
    }
  });
});
