import assert from 'node:assert';
import fc from 'fast-check';
import { classify, listKeys, lostNamespaces, namespacesOf } from '../../src/metadata/keys';
import { FIXTURE } from '../support/vm-fixture';

/** Names from parts that matter to the rules, so that most of them meet one. */
const name = fc
  .array(fc.constantFrom('sdc', 'foo', 'docker', ':', '_pw', 'a', '\n', '', ' '), { maxLength: 5 })
  .map((parts) => parts.join(''));
const names = fc.uniqueArray(name, { maxLength: 12 });
const namespaces = fc.uniqueArray(fc.constantFrom('foo', 'docker', 'a', 'sdc', ''), {
  maxLength: 3,
});

function mapOf(keys: readonly string[]): ReadonlyMap<string, unknown> {
  return new Map(keys.map((key) => [key, 'value']));
}

/** The rules of the specification's section 1, one regular expression for each. */
function slowClass(key: string, spaces: readonly string[]): string {
  if (key.startsWith('sdc:')) {
    return 'sdc';
  }
  const prefix = /^([^:]*):/.exec(key)?.[1];
  if (prefix !== undefined && spaces.some((space) => space === prefix)) {
    return 'namespaced';
  }
  return key.endsWith('_pw') ? 'password' : 'plain';
}

describe('keys', () => {
  it('have the class that a plain reading of the rules gives them', () => {
    fc.assert(
      fc.property(name, namespaces, (key, spaces) => {
        assert.strictEqual(classify(key, spaces), slowClass(key, spaces));
      }),
      { numRuns: 1000 },
    );
  });

  it("have the classes of the specification's examples", () => {
    const kind = (key: string): string => classify(key, ['docker', 'foo']);
    assert.strictEqual(kind('sdc:nics.0.ip'), 'sdc');
    assert.strictEqual(kind('foo:bar:baz'), 'namespaced');
    assert.strictEqual(kind('docker:x_pw'), 'namespaced');
    assert.strictEqual(kind('x:y_pw'), 'password');
    assert.strictEqual(kind('root_pw'), 'password');
    for (const key of ['sdc', 'SDC:uuid', 'docker', 'Docker:cmd', 'x:y', '_pwx']) {
      assert.strictEqual(kind(key), 'plain', key);
    }
  });

  it('are listed by the rules, customer keys first, each map in its own order', () => {
    fc.assert(
      fc.property(names, names, namespaces, (customer, internal, spaces) => {
        const listable = (key: string): boolean => !/^sdc:|[\u0000-\u001f\u007f]|^$/.test(key);
        const expected = [
          ...customer.filter((key) => listable(key) && slowClass(key, spaces) === 'plain'),
          ...internal.filter((key) => listable(key) && slowClass(key, spaces) !== 'plain'),
        ];
        const maps = { customer: mapOf(customer), internal: mapOf(internal) };
        const listed = listKeys(maps, spaces);
        assert.deepStrictEqual(listed, expected);
        assert.strictEqual(new Set(listed).size, listed.length);
      }),
      { numRuns: 1000 },
    );
  });

  it("are listed as the platform's own test lists them", () => {
    const maps = {
      customer: mapOf(['bar:foo', 'foo:bar', 'user-script']),
      internal: mapOf(['bar:foo', 'foo:bar', 'hidden']),
    };
    assert.deepStrictEqual(listKeys(maps, ['baz', 'foo']), ['bar:foo', 'user-script', 'foo:bar']);
  });

  it("list no internal name that is not the guest's", () => {
    const maps = { customer: mapOf([]), internal: mapOf(Object.keys(FIXTURE.internal)) };
    assert.deepStrictEqual(listKeys(maps, []), ['root_pw']);
    assert.deepStrictEqual(listKeys(maps, namespacesOf(FIXTURE.vm)), [
      'root_pw',
      'docker:cmd',
      'docker:restartcount',
    ]);
  });

  it('read namespaces of a proper list only', () => {
    const of = (value: unknown): readonly string[] =>
      namespacesOf({ internal_metadata_namespaces: value });
    assert.deepStrictEqual(of(['a', 7, null, 'b']), ['a', 'b']);
    for (const value of [undefined, null, 'a', { 0: 'a' }, 7]) {
      assert.deepStrictEqual(of(value), []);
    }
    assert.deepStrictEqual(namespacesOf({}), []);
  });

  it('that a VM lost are found, and a key that begins with a colon has none', () => {
    const keys = ['docker:cmd', 'docker:id', 'x:y_pw', 'sdc:volumes', 'plain', 'foo:a', ':a', ':'];
    const internal = mapOf(keys);
    assert.deepStrictEqual(lostNamespaces(internal, ['foo']), ['docker']);
    assert.deepStrictEqual(lostNamespaces(internal, ['foo', 'docker']), []);
  });
});
