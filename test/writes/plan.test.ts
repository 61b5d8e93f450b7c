import assert from 'node:assert';
import type { Change } from '../../src/metadata/vm-data';
import { planChanges, type CurrentMetadata, type Plan } from '../../src/writes/plan';
import { currentOfText } from '../support/metadata-text';

const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });
const remove = (key: string): Change => ({ kind: 'remove', map: 'customer', key });
const password = (key: string, value: string): Change => ({
  kind: 'set',
  map: 'internal',
  key,
  value,
});
const limits = { metadataBytes: 1000, metadataKeys: 3, fileBytes: 3000 };
const fileOf = (customer: object, internal: object = {}): CurrentMetadata => {
  const file = { customer_metadata: customer, internal_metadata: internal };
  return currentOfText(Buffer.from(JSON.stringify(file)));
};
const current = fileOf({ a: '1', n: 5 });
const wordsOf = ({ results }: Plan): string[] => {
  return results.map((result) => (result.kind === 'failed' ? result.text : 'stored'));
};

describe('planChanges', () => {
  it('plans no edit where nothing would differ', () => {
    const plan = planChanges([set('a', '1'), remove('absent')], current, limits);
    assert.strictEqual(plan.empty, true);
    assert.deepStrictEqual(plan.results, [{ kind: 'stored' }, { kind: 'stored' }]);
  });

  it('applies changes in their order', () => {
    const plan = planChanges(
      [set('b', 'x'), remove('b'), set('a', '2'), set('a', '1')],
      current,
      limits,
    );
    assert.strictEqual(plan.empty, true);
    const other = planChanges([remove('a'), set('a', '2'), set('n', '5')], current, limits);
    assert.deepStrictEqual(
      [...other.customer],
      [
        ['a', '2'],
        ['n', '5'],
      ],
    );
  });

  it('refuses only the change that exceeds a limit, and names the limit', () => {
    const changes = [set('b', 'x'.repeat(980)), set('b', 'y'), set('c', 'z'), set('a', '3')];
    const plan = planChanges(changes, current, limits);
    const wanted = ['Metadata is full.', 'stored', 'Too many metadata keys.', 'stored'];
    assert.deepStrictEqual(wordsOf(plan), wanted);
    assert.deepStrictEqual(Object.fromEntries(plan.customer), { b: 'y', a: '3' });
  });

  it('accepts what makes a VM above its limits smaller', () => {
    const above = fileOf({ a: 'x'.repeat(5000), n: 5 });
    const plan = planChanges([set('a', ''), remove('n')], above, limits);
    assert.deepStrictEqual(wordsOf(plan), ['stored', 'stored']);
  });

  it("does not count the operator's keys for the guest's limits", () => {
    const operators = Object.fromEntries(
      Array.from({ length: 50 }, (_, index) => [`key${index}`, 'x'.repeat(30)] as const),
    );
    const plan = planChanges(
      [set('prepare-image:state', 'running'), password('root_pw', 'secret')],
      fileOf({ a: '1' }, operators),
      limits,
    );
    assert.deepStrictEqual(wordsOf(plan), ['stored', 'stored']);
  });

  it('counts the passwords that a guest keeps with the operator\u2019s data', () => {
    const file = fileOf({ a: '1', n: 5 }, { root_pw: 'x'.repeat(900), script: 'y'.repeat(900) });
    assert.strictEqual(file.index.use.keys, 3);
    const plan = planChanges(
      [password('b_pw', ''), password('root_pw', 'z'.repeat(990))],
      file,
      limits,
    );
    assert.deepStrictEqual(wordsOf(plan), ['Too many metadata keys.', 'Metadata is full.']);
  });

  it('limits the whole file, whoever wrote it', () => {
    const full = fileOf({}, { script: 'y'.repeat(2900) });
    const plan = planChanges([set('a', 'x'.repeat(200)), set('b', '1')], full, limits);
    assert.deepStrictEqual(wordsOf(plan), ['Metadata is full.', 'stored']);
  });
});
