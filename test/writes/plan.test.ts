import assert from 'node:assert';
import type { Change } from '../../src/metadata/handler';
import { planChanges } from '../../src/writes/plan';

const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });
const remove = (key: string): Change => ({ kind: 'remove', map: 'customer', key });
const limits = { metadataBytes: 1000, metadataKeys: 3 };
const current = {
  customer: new Map<string, unknown>([
    ['a', '1'],
    ['n', 5],
  ]),
  internal: new Map<string, unknown>(),
};

describe('planChanges', () => {
  it('has nothing to write where nothing would differ', () => {
    const plan = planChanges([set('a', '1'), remove('absent')], current, 50, limits);
    assert.strictEqual(plan.empty, true);
    assert.deepStrictEqual(plan.results, [{ kind: 'stored' }, { kind: 'stored' }]);
  });

  it('counts changes in their order', () => {
    const plan = planChanges(
      [set('b', 'x'), remove('b'), set('a', '2'), set('a', '1')],
      current,
      50,
      limits,
    );
    assert.strictEqual(plan.empty, true);
    const other = planChanges([remove('a'), set('a', '2'), set('n', '5')], current, 50, limits);
    assert.deepStrictEqual(
      [...other.customer],
      [
        ['a', '2'],
        ['n', '5'],
      ],
    );
  });

  it('refuses what would be too much, in words of its own, and only that', () => {
    const changes = [set('b', 'x'.repeat(950)), set('b', 'y'), set('c', 'z'), set('a', '3')];
    const { results, customer } = planChanges(changes, current, 50, limits);
    assert.deepStrictEqual(
      results.map((result) => (result.kind === 'failed' ? result.text : 'stored')),
      ['Metadata is full.', 'stored', 'Too many metadata keys.', 'stored'],
    );
    assert.deepStrictEqual(Object.fromEntries(customer), { b: 'y', a: '3' });
  });

  it('lets a VM above its limits come down', () => {
    const { results } = planChanges([set('a', ''), remove('n')], current, 5000, limits);
    assert.deepStrictEqual(results, [{ kind: 'stored' }, { kind: 'stored' }]);
  });
});
