/*
 * The changes of one VM before their backend: who is let in, who joins, who is slowed down, and what each
 * answer says of that for the record.
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import type { Change, ChangeResult } from '../../src/metadata/vm-data';
import type { Backend, Batch, Target } from '../../src/writes/backend';
import { WriteQueue, type WriteCounts } from '../../src/writes/queue';
import type { WriteShare } from '../../src/writes/rate-limit';
import { eventually } from '../support/eventually';
import { logRecords } from '../support/log-records';

const LIMITS = { metadataBytes: 1024 * 1024, metadataKeys: 1024, fileBytes: 1_000_000 };
const AMPLE: WriteShare = { perSecond: 1000, burst: 1000 };
const PATIENCE_MS = 30_000;
/** For what is never answered otherwise. */
const SHORT_MS = 100;
const STORED: ChangeResult = { kind: 'stored' };
const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });

describe('a lane of writes', () => {
  let commits: number;
  let counts: WriteCounts;
  const target: Target = {
    ...{ zonename: 'z', uuid: 'z', directory: '/nowhere' },
    log: logRecords().zoneLog('z'),
  };

  function lane(
    commit: Backend['commit'],
    share = AMPLE,
    answerMs = PATIENCE_MS,
  ): (change: Change) => Promise<ChangeResult> {
    commits = 0;
    counts = { stored: 0, failed: 0, joined: 0, timedOut: 0 };
    const counted = (batch: Batch): Promise<readonly ChangeResult[]> => {
      commits++;
      return commit(batch);
    };
    const backend = { limits: LIMITS, commit: counted, stop: () => Promise.resolve() };
    const made = new WriteQueue(target, backend, share, answerMs, counts);
    return (change) => made.change(target, change);
  }

  const hasty = [AMPLE, SHORT_MS] as const;
  const store = (batch: Batch): Promise<readonly ChangeResult[]> => {
    batch.stage('writing');
    return Promise.resolve(batch.take().map(() => STORED));
  };

  it('says of changes that waited for their share that they did', async () => {
    const change = lane(store, { perSecond: 5, burst: 2 });
    const asked = Array.from({ length: 5 }, (_, n) => change(set('k', String(n))));
    const limits = (await Promise.all(asked)).map((result) => [result.kind, result.limit]);
    assert.deepStrictEqual(limits, [
      ...Array<unknown>(2).fill(['stored', undefined]),
      ...Array<unknown>(3).fill(['stored', 'writes']),
    ]);
  });

  it('says what stood in the way of a change that its share kept back for too long', async () => {
    const change = lane(store, { perSecond: 1, burst: 1 }, SHORT_MS);
    assert.deepStrictEqual(await change(set('k', '1')), STORED);
    const late = { kind: 'failed', text: 'Too many metadata updates.', limit: 'writes' };
    assert.deepStrictEqual(await change(set('k', '2')), late);
    assert.deepStrictEqual([commits, counts.timedOut], [1, 1]);
  });

  it('lets writes that all fail fail no faster than they could be made', async () => {
    const change = lane(() => Promise.reject(new Error('no lock')), { perSecond: 20, burst: 2 });
    const began = performance.now();
    const results = await Promise.all(
      Array.from({ length: 6 }, (_, n) => change(set('k', String(n)))),
    );
    assert(results.every(({ kind }) => kind === 'failed'));
    assert.strictEqual(counts.failed, 6);
    assert(commits > 1 && performance.now() - began >= 140);
  });

  it('marks who joined another, who has used nothing up, and who is too many', async () => {
    let commit = (): void => undefined;
    const go = new Promise<void>((resolve) => (commit = resolve));
    const change = lane((batch) => go.then(() => store(batch)));
    const [first, joined] = [change(set('k', 'same')), change(set('k', 'same'))];
    const others = Array.from({ length: 511 }, (_, n) => change(set(`k${n}`, 'v')));
    assert.deepStrictEqual(await change(set('more', 'v')), {
      ...{ kind: 'failed', text: 'Too many metadata updates.' },
      ...{ free: true, limit: 'waiting-writes' },
    });
    commit();
    assert.deepStrictEqual([await first, await joined], [STORED, { ...STORED, free: true }]);
    assert((await Promise.all(others)).every(({ free }) => free === undefined));
  });

  it('takes who repeats a change that goes on without its asker for the asker', async () => {
    let commit = (): void => undefined;
    const go = new Promise<void>((resolve) => (commit = resolve));
    const change = lane(
      async (batch) => {
        const results = await store(batch);
        await go;
        return results;
      },
      ...hasty,
    );
    const late = { kind: 'failed', text: 'Could not update metadata: timed out.' };
    assert.deepStrictEqual(await change(set('k', 'v')), late);
    const [again, joined] = [change(set('k', 'v')), change(set('k', 'v'))];
    commit();
    assert.deepStrictEqual([await again, await joined], [STORED, { ...STORED, free: true }]);
    assert.deepStrictEqual([counts.stored, counts.joined, commits], [1, 2, 1]);
  });

  it('ends a batch that nobody waits for any more, and takes the next change', async () => {
    let aborted = false;
    const change = lane(
      async (batch) => {
        if (commits === 1) {
          batch.stage('locking');
          await delay(10_000, undefined, { signal: batch.signal }).catch(() => (aborted = true));
          throw new Error('aborted');
        }
        return store(batch);
      },
      ...hasty,
    );
    const locked = 'Could not update metadata: configuration is locked.';
    assert.deepStrictEqual(await change(set('k', '1')), { kind: 'failed', text: locked });
    await eventually(() => aborted);
    assert.deepStrictEqual(await change(set('k', '2')), STORED);
  });
});
