/*
 * The changes of one VM before their backend: which are let in, which join another, which are slowed down, and
 * what each result says of that for the request log.
 */
import assert from 'node:assert';
import { setImmediate as nextIteration, setTimeout as delay } from 'node:timers/promises';
import type { TokenRate } from '../../src/lib/token-bucket';
import type { Change, ChangeResult } from '../../src/metadata/vm-data';
import type { WriteTarget } from '../../src/vm/store';
import { WriteQueue, type Backend, type Batch, type WriteCounts } from '../../src/writes/queue';
import { eventually } from '../support/eventually';
import { logRecords } from '../support/log-records';

const LIMITS = { metadataBytes: 1024 * 1024, metadataKeys: 1024, fileBytes: 1_000_000 };
const AMPLE: TokenRate = { perSecond: 1000, burst: 1000 };
const ANSWER_MS = 30_000;
/** For what is never answered otherwise. */
const SHORT_MS = 100;
const STORED: ChangeResult = { kind: 'stored' };
const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });

describe('the queue of a VM', () => {
  let commits: number;
  let counts: WriteCounts;
  const target: WriteTarget = {
    ...{ zonename: 'z', uuid: 'z', directory: '/nowhere' },
    log: logRecords().zoneLog('z'),
  };

  function queueOf(
    commit: (batch: Batch) => ReturnType<Backend['commit']>,
    rate = AMPLE,
    answerMs = ANSWER_MS,
  ): (change: Change) => Promise<ChangeResult> {
    commits = 0;
    counts = { stored: 0, failed: 0, changed: 0, joined: 0, timedOut: 0 };
    const counted: Backend['commit'] = (_target, batch) => {
      commits++;
      return commit(batch);
    };
    const backend = { limits: LIMITS, commit: counted, stop: () => Promise.resolve() };
    const made = new WriteQueue(target, backend, rate, answerMs, counts);
    return (change) => made.change(target, change);
  }

  const impatient = [AMPLE, SHORT_MS] as const;
  const store = (batch: Batch): Promise<readonly ChangeResult[]> => {
    batch.stage = 'writing';
    return Promise.resolve(batch.take().map(() => STORED));
  };

  it('makes one batch of what those write next who were answered together', async () => {
    const sizes: number[] = [];
    const change = queueOf((batch) => {
      const changes = batch.take();
      sizes.push(changes.length);
      return Promise.resolve(changes.map(() => STORED));
    });
    await Promise.all(['a', 'b', 'c'].map((key) => change(set(key, '1'))));
    const first = change(set('d', '1'));
    await nextIteration();
    await Promise.all([first, change(set('e', '1'))]);
    assert.deepStrictEqual(sizes, [1, 2, 2]);
    await change(set('f', '1'));
    const alone = change(set('g', '1'));
    assert.strictEqual(commits, 5, 'after a batch of one nothing is waited for');
    await alone;
  });

  it('marks changes that waited for the rate limit', async () => {
    const change = queueOf(store, { perSecond: 5, burst: 2 });
    const asked = Array.from({ length: 5 }, (_, n) => change(set('k', String(n))));
    const limits = (await Promise.all(asked)).map((result) => [result.kind, result.limit]);
    assert.deepStrictEqual(limits, [
      ...Array<unknown>(2).fill(['stored', undefined]),
      ...Array<unknown>(3).fill(['stored', 'writes']),
    ]);
  });

  it('counts a change whose condition did not hold as neither stored nor failed', async () => {
    const unmet: ChangeResult = { kind: 'failed', text: 'Changed t', unmet: true };
    const change = queueOf((batch) => Promise.resolve(batch.take().map(() => unmet)));
    assert.deepStrictEqual(await change(set('k', '1')), unmet);
    assert.deepStrictEqual([counts.changed, counts.stored, counts.failed], [1, 0, 0]);
  });

  it('names the rate limit to a change that it delayed for too long', async () => {
    const change = queueOf(store, { perSecond: 1, burst: 1 }, SHORT_MS);
    assert.deepStrictEqual(await change(set('k', '1')), STORED);
    const late = { kind: 'failed', text: 'Too many metadata updates.', limit: 'writes' };
    assert.deepStrictEqual(await change(set('k', '2')), late);
    assert.deepStrictEqual([commits, counts.timedOut], [1, 1]);
  });

  it('fails writes no faster than it could make them', async () => {
    const change = queueOf(() => Promise.reject(new Error('no lock')), { perSecond: 20, burst: 2 });
    const began = performance.now();
    const results = await Promise.all(
      Array.from({ length: 6 }, (_, n) => change(set('k', String(n)))),
    );
    assert(results.every(({ kind }) => kind === 'failed'));
    assert.strictEqual(counts.failed, 6);
    assert(commits > 1 && performance.now() - began >= 140);
  });

  it('does not charge a change that joins another, and refuses the 513th that waits', async () => {
    let commit = (): void => undefined;
    const go = new Promise<void>((resolve) => (commit = resolve));
    const change = queueOf((batch) => go.then(() => store(batch)));
    const [first, joined] = [change(set('k', 'same')), change(set('k', 'same'))];
    const others = Array.from({ length: 511 }, (_, n) => change(set(`k${n}`, 'v')));
    assert.deepStrictEqual(await change(set('more', 'v')), {
      ...{ kind: 'failed', text: 'Too many metadata updates.' },
      ...{ uncharged: true, limit: 'waiting-writes' },
    });
    commit();
    assert.deepStrictEqual([await first, await joined], [STORED, { ...STORED, uncharged: true }]);
    assert((await Promise.all(others)).every(({ uncharged }) => uncharged === undefined));
  });

  it('charges a repetition that joins a change whose first request timed out', async () => {
    let commit = (): void => undefined;
    const go = new Promise<void>((resolve) => (commit = resolve));
    const change = queueOf(
      async (batch) => {
        const results = await store(batch);
        await go;
        return results;
      },
      ...impatient,
    );
    const late = { kind: 'failed', text: 'Could not update metadata: timed out.' };
    assert.deepStrictEqual(await change(set('k', 'v')), late);
    const [again, joined] = [change(set('k', 'v')), change(set('k', 'v'))];
    commit();
    assert.deepStrictEqual([await again, await joined], [STORED, { ...STORED, uncharged: true }]);
    assert.deepStrictEqual([counts.stored, counts.joined, commits], [1, 2, 1]);
  });

  it('aborts a batch that nobody waits for any more, and commits the next change', async () => {
    let aborted = false;
    const change = queueOf(
      async (batch) => {
        if (commits === 1) {
          batch.stage = 'locking';
          await delay(10_000, undefined, { signal: batch.signal }).catch(() => (aborted = true));
          throw new Error('aborted');
        }
        return store(batch);
      },
      ...impatient,
    );
    const locked = 'Could not update metadata: configuration is locked.';
    assert.deepStrictEqual(await change(set('k', '1')), { kind: 'failed', text: locked });
    await eventually(() => aborted);
    assert.deepStrictEqual(await change(set('k', '2')), STORED);
  });
});
