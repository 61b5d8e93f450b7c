import assert from 'node:assert';
import {
  either,
  flag,
  list,
  members,
  number,
  oneOf,
  optional,
  problemsIn,
  text,
  whole,
  type Reader,
} from '../../src/lib/json-reader';

function refusal(reader: Reader<unknown>, value: unknown): string {
  try {
    reader(value);
  } catch (err) {
    return problemsIn(err);
  }
  return 'accepted';
}

describe('a reader of JSON', () => {
  const reader = members({
    port: either(whole(1, 65535), 80),
    ratio: optional(number(0, 1)),
    on: either(flag(), true),
    level: either(oneOf(['low', 'high']), 'low'),
    names: optional(list(text(/^[a-z]+$/, 'small letters are needed'), 2)),
    inner: members({ depth: either(whole(0, 3), 1) }),
  });

  it('returns the members that are there, and the defaults of the others', () => {
    assert.deepStrictEqual(reader({ ratio: 0.5, names: ['a', 'b'], inner: { depth: 2 } }), {
      port: 80,
      ratio: 0.5,
      on: true,
      level: 'low',
      names: ['a', 'b'],
      inner: { depth: 2 },
    });
    assert.deepStrictEqual(reader({}).inner, { depth: 1 });
  });

  for (const [value, words] of [
    [[], 'an object is needed'],
    [null, 'an object is needed'],
    ['x', 'an object is needed'],
    [{ prot: 1 }, 'no member is named prot'],
    [{ port: 0 }, 'port: a whole number from 1 to 65535 is needed'],
    [{ port: 1.5 }, 'port: a whole number from 1 to 65535 is needed'],
    [{ port: '80' }, 'port: a whole number from 1 to 65535 is needed'],
    [{ ratio: 2 }, 'ratio: a number from 0 to 1 is needed'],
    [{ ratio: null }, 'ratio: a number from 0 to 1 is needed'],
    [{ on: 1 }, 'on: true or false is needed'],
    [{ level: 'loud' }, 'level: one of low, high is needed'],
    [{ names: 'a' }, 'names: an array is needed'],
    [{ names: ['a', 'b', 'c'] }, 'names: 2 elements are the most'],
    [{ names: ['a', 'B'] }, 'names.1: small letters are needed'],
    [{ names: [1] }, 'names.0: a string is needed'],
    [{ inner: { depth: 4 } }, 'inner.depth: a whole number from 0 to 3 is needed'],
    [{ inner: { deep: 1 } }, 'inner: no member is named deep'],
  ] as const) {
    it(`refuses ${JSON.stringify(value)}: ${words}`, () => {
      assert.strictEqual(refusal(reader, value), words);
    });
  }

  it('reports every problem at once', () => {
    const found = refusal(reader, { port: 0, on: 1, inner: { depth: 9 } });
    assert.strictEqual(found.split('; ').length, 3, found);
  });

  it('takes no member from the prototype of an object', () => {
    const value: unknown = JSON.parse('{"__proto__":{"port":1}}');
    assert.strictEqual(refusal(reader, value), 'no member is named __proto__');
    assert.strictEqual(refusal(reader, { toString: 1 }), 'no member is named toString');
  });

  it('rethrows other errors', () => {
    const broken = members({ x: () => assert.fail('a bug') });
    assert.throws(() => refusal(broken, {}), /a bug/);
  });
});
