/*
 * Writes that a stale copy of vminfod's has undone: which of them are made again.
 */
import assert from 'node:assert';
import * as fs from 'node:fs';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { eventually } from '../support/eventually';
import { remove, set, shown, STORED, WriterFixture } from '../support/writer-fixture';

describe('a write that a stale copy of vminfod has undone', () => {
  let t: WriterFixture;

  beforeEach(() => (t = new WriterFixture()));
  afterEach(() => t.end());

  const file = (map: object): string => JSON.stringify({ customer_metadata: map });
  /** As vmadm does: another file in its place. */
  const replace = (map: object): void => {
    fs.writeFileSync(`${t.path}.new`, file(map));
    fs.renameSync(`${t.path}.new`, t.path);
  };
  const restore = async (): Promise<number> => {
    const changes = t.files.undoneChanges(t.target());
    await Promise.all(changes.map((change) => t.writer.change(t.target(), change)));
    return changes.length;
  };

  beforeEach(async () => {
    t.make({ confirmMs: 1 });
    replace({ a: 'old', gone: 'x', other: '1' });
    await t.ask(set('a', 'new'));
    await t.ask(set('b', 'made'));
    await t.ask(remove('gone'));
    await eventually(() => t.held === 0);
  });

  it('is made again, once, logged and counted', async () => {
    assert.strictEqual(await restore(), 0);
    replace({ a: 'old', gone: 'x', other: '2' });
    await restore();
    assert.strictEqual(await restore(), 0);
    assert.deepStrictEqual(t.customer(), { a: 'new', b: 'made', other: '2' });
    assert.strictEqual(t.files.leaseStatus.restored, 3);
    const records = t.logs.records(
      'metadata was undone from a stale copy of vminfod, and written again',
    );
    assert.strictEqual(records.length, 1);
    await eventually(() => t.held === 0);
    replace({ a: 'old', gone: 'x', other: '3' });
    assert.strictEqual(await restore(), 0);
    assert.deepStrictEqual(t.customer(), { a: 'old', gone: 'x', other: '3' });
  });

  it('is not made again where an operator set another value', async () => {
    replace({ a: 'third', b: 'made', gone: 'y' });
    await restore();
    assert.deepStrictEqual(t.customer(), { a: 'third', b: 'made', gone: 'y' });
    assert.strictEqual(t.files.leaseStatus.restored, 0);
  });

  it('does not count as made again where the guest itself sets another value', async () => {
    replace({ a: 'old', b: 'made', other: '1' });
    assert.deepStrictEqual(await t.ask(set('a', 'newer')), STORED);
    assert.deepStrictEqual(t.customer(), { a: 'newer', b: 'made', other: '1' });
    assert.strictEqual(t.files.leaseStatus.restored, 0);
  });

  it('is not made again where it was reverted after vminfod had shown it', async () => {
    t.files.observe('z', shown({ a: 'new', b: 'made', other: '1' }));
    replace({ a: 'old', gone: 'x', other: '1' });
    assert.strictEqual(await restore(), 0);
    assert.deepStrictEqual(t.customer(), { a: 'old', gone: 'x', other: '1' });
  });

  it('is not made again where it was reverted after vminfod had shown it sooner than our own thread', async () => {
    let isSooner = false;
    // Where the answer comes before this sees the file, it is done again.
    for (let n = 0; !isSooner; n++) {
      const put = { hasAnswer: false };
      const answer = t.ask(set('a', `new ${n}`)).then(() => (put.hasAnswer = true));
      while (!put.hasAnswer && !isSooner) {
        await nextIteration();
        // The main thread does nothing else meanwhile, so no thread can report to it.
        for (const end = performance.now() + 20; performance.now() < end && !isSooner;) {
          isSooner = fs.readFileSync(t.path, 'utf8').includes(`new ${n}`) && !put.hasAnswer;
        }
      }
      if (isSooner) {
        t.files.observe('z', shown({ a: `new ${n}`, b: 'made', other: '1' }));
      }
      await answer;
      await eventually(() => t.held === 0);
    }
    replace({ a: 'old', other: '1', b: 'made' });
    assert.strictEqual(await restore(), 0);
    assert.deepStrictEqual(t.customer(), { a: 'old', other: '1', b: 'made' });
  });

  it('is made again where vminfod shows it only after its older copy was written', async () => {
    replace({ a: 'old', gone: 'x', other: '2' });
    t.files.observe('z', shown({ a: 'new', b: 'made', other: '1' }));
    await restore();
    assert.deepStrictEqual(t.customer(), { a: 'new', b: 'made', other: '2' });
  });

  it('is made again by the next write, though nobody has asked for anything in between', async () => {
    replace({ a: 'old', gone: 'x', other: '2' });
    assert.deepStrictEqual(await t.ask(set('c', 'next')), STORED);
    assert.deepStrictEqual(t.customer(), { a: 'new', b: 'made', other: '2', c: 'next' });
    assert.strictEqual(t.files.leaseStatus.restored, 3);
  });

  it('is made again by a write that waited for the lock while it was undone', async () => {
    const release = await t.block('z');
    const put = t.ask(set('c', 'next'));
    replace({ a: 'old', gone: 'x', other: '2' });
    release();
    assert.deepStrictEqual(await put, STORED);
    assert.deepStrictEqual(t.customer(), { a: 'new', b: 'made', other: '2', c: 'next' });
  });

  it('is made again although another file that kept it came first', async () => {
    replace({ a: 'new', b: 'made', other: '2' });
    assert.strictEqual(await restore(), 3);
    assert.strictEqual(t.files.leaseStatus.restored, 0);
    await eventually(() => t.held === 0);
    replace({ a: 'old', b: 'made', other: '3' });
    await restore();
    assert.deepStrictEqual(t.customer(), { a: 'new', b: 'made', other: '3' });
  });

  it('is made again beside a write that a later stale copy undoes in its turn', async () => {
    replace({ a: 'old', gone: 'x', other: '2' });
    assert.deepStrictEqual(await t.ask(set('c', 'next')), STORED);
    await eventually(() => t.held === 0);
    replace({ a: 'new', b: 'made', other: '3' });
    await restore();
    assert.deepStrictEqual(t.customer(), { a: 'new', b: 'made', other: '3', c: 'next' });
  });

  it('keeps no other write from being made where the key has a long value now', async () => {
    const long = 'x'.repeat(200_000);
    replace({ a: long, b: 'made' });
    assert.deepStrictEqual(await t.ask(set('c', 'next')), STORED);
    assert.deepStrictEqual(t.customer(), { a: long, b: 'made', c: 'next' });
  });

  it('is not made again where a file that kept it was shown, and then it was reverted', async () => {
    replace({ a: 'new', b: 'made', other: '2' });
    t.files.observe('z', shown({ a: 'new', b: 'made', other: '1' }));
    await restore();
    await eventually(() => t.held === 0);
    replace({ a: 'old', gone: 'x', other: '3' });
    await restore();
    assert.deepStrictEqual(t.customer(), { a: 'old', gone: 'x', other: '3' });
  });

  it('is not made again in a file that was replaced under our lock: vmadm waits for it', async () => {
    t.make({ confirmMs: 20 });
    await t.ask(set('b', 'again'));
    replace({ b: 'made' });
    await eventually(() => t.held === 0);
    assert.strictEqual(await restore(), 0);
  });

  it('is not made again in the next VM of the name, though it was under way when the VM went', async () => {
    const put = t.ask(set('a', 'of the old VM'));
    while (t.writer.status().inProgress[0]?.stage !== 'writing') {
      await nextIteration();
    }
    t.writer.remove(t.target());
    await put;
    await eventually(() => t.held === 0);
    replace({ other: 'of the new VM' });
    assert.strictEqual(await restore(), 0);
    assert.deepStrictEqual(t.customer(), { other: 'of the new VM' });
  });

  it('is not noted for long values, which are stored and removed', async () => {
    const long = 'x'.repeat(200_000);
    assert.deepStrictEqual(await t.ask(set('long', long)), STORED);
    assert.deepStrictEqual(await t.ask(set('long', `${long}y`)), STORED);
    assert.deepStrictEqual(await t.ask(remove('long')), STORED);
  });

  it('is not made again where that is switched off', async () => {
    t.make({ confirmMs: 1, restoreUndone: false });
    await t.ask(set('a', 'newer'));
    await eventually(() => t.held === 0);
    replace({ a: 'new' });
    assert.strictEqual(await restore(), 0);
  });
});
