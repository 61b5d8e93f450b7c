/* Changes that are made only where the key still has the token that their client has seen. */
import assert from 'node:assert';
import { render } from '../../src/metadata/sdc';
import type { TokenCheck } from '../../src/metadata/vm-data';
import { planChanges } from '../../src/writes/plan';
import { METADATA_LIMITS, STORED } from '../support/writer-fixture';
import { currentOfText } from '../support/metadata-text';
import { TEST_TOKENS } from '../support/verb-options';

const FILE = Buffer.from(
  JSON.stringify({
    customer_metadata: { k: 'v', none: null, n: 5 },
    internal_metadata: { k_pw: 'secret' },
  }),
);

function tokenOf(key: string, value: unknown): string {
  return TEST_TOKENS.of([TEST_TOKENS.entry(key, render(value))]);
}

function unless(key: string, value: unknown): TokenCheck {
  const expected = tokenOf(key, value);
  return {
    tokenOf: (now) => tokenOf(key, now),
    longTokenOf: (now) => Promise.resolve(tokenOf(key, now)),
    refusal: (token) => (token === expected ? null : `Changed ${token}`),
  };
}

function set(key: string, value: string, seen: unknown, map: 'customer' | 'internal' = 'customer') {
  return { kind: 'set', map, key, value, unless: unless(key, seen) } as const;
}

describe('planChanges, on a condition', () => {
  const plan = (...changes: Parameters<typeof planChanges>[0]) =>
    planChanges(changes, currentOfText(FILE), METADATA_LIMITS);
  const changed = (key: string, value: unknown): unknown => {
    return { kind: 'failed', text: `Changed ${tokenOf(key, value)}`, unmet: true };
  };

  it('makes a change of a key that is as its asker has seen it, and no other', () => {
    assert.deepStrictEqual(plan(set('k', 'w', 'v')).results, [STORED]);
    assert.deepStrictEqual(plan(set('k', 'w', 'x')).results, [changed('k', 'v')]);
    assert.deepStrictEqual(plan(set('k', 'v', 'x')).results, [changed('k', 'v')]);
    assert.deepStrictEqual(plan(set('k_pw', 'w', 'secret', 'internal')).results, [STORED]);
    assert.deepStrictEqual(plan(set('n', 'w', '5')).results, [STORED]);
  });

  it('takes null for absence, as a GET does', () => {
    assert.deepStrictEqual(plan(set('none', 'w', undefined)).results, [STORED]);
    assert.deepStrictEqual(plan(set('new', 'w', undefined)).results, [STORED]);
    assert.deepStrictEqual(plan(set('k', 'w', undefined)).results, [changed('k', 'v')]);
  });

  it('compares with what the changes before it in the same batch leave', () => {
    const { results, customer } = plan(
      set('k', 'one', 'v'),
      set('k', 'two', 'v'),
      set('k', 'three', 'one'),
      { kind: 'remove', map: 'customer', key: 'k', unless: unless('k', 'one') },
      { kind: 'remove', map: 'customer', key: 'k', unless: unless('k', 'three') },
      set('k', 'four', undefined),
    );
    assert.deepStrictEqual(results, [
      ...[STORED, changed('k', 'one'), STORED, changed('k', 'three')],
      ...[STORED, STORED],
    ]);
    assert.deepStrictEqual([...customer], [['k', 'four']]);
  });
});
