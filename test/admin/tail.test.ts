/*
 * Followers of the log: what they see, and what a slow one costs.
 */
import assert from 'node:assert';
import { PassThrough, Writable } from 'node:stream';
import {
  addTail,
  levelOf,
  MOST_FOLLOWERS,
  MOST_KEPT_RECORDS,
  MOST_UNREAD_BYTES,
  setLevel,
  type TailOptions,
} from '../../src/admin/tail';
import { createLogger, ZoneLog } from '../../src/log';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';

function logWithTail() {
  const written: string[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written.push(chunk.toString());
      done();
    },
  });
  const log = createLogger('info', sink);
  return { log, tail: addTail(log), written };
}

function recordsOf(stream: PassThrough): JsonObject[] {
  const text = String(stream.read() ?? '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => parseJsonObject(line) ?? {});
}

describe('the tail of the log', () => {
  it('sends each record to a follower of all, and those of a zone to a follower of that zone', () => {
    const { log, tail } = logWithTail();
    const [all, one] = [new PassThrough(), new PassThrough()];
    tail.follow(all, {});
    tail.follow(one, { zonename: 'a' });
    new ZoneLog(log, 'a', 'joyent').info({ n: 1 }, 'of a');
    new ZoneLog(log, 'b', 'joyent').info({ n: 2 }, 'of b');
    log.info('of nobody');
    const messages = (stream: PassThrough): unknown[] => recordsOf(stream).map(({ msg }) => msg);
    assert.deepStrictEqual(messages(all), ['of a', 'of b', 'of nobody']);
    assert.deepStrictEqual(messages(one), ['of a']);
  });

  it('shows what the log shows, at every level it is set to, also for loggers made before', () => {
    const { log, tail, written } = logWithTail();
    const zone = new ZoneLog(log, 'a', 'joyent');
    const child = log.child({ component: 'zones' }, true);
    zone.info({}, 'made');
    const follower = new PassThrough();
    tail.follow(follower, {});
    written.length = 0;
    const speak = (): void => {
      zone.debug({}, 'zone debug');
      child.debug('child debug');
      log.debug('own debug');
      zone.warn({}, 'zone warn');
    };
    speak();
    setLevel(log, 'debug');
    assert.strictEqual(levelOf(log), 'debug');
    speak();
    setLevel(log, 'error');
    speak();
    const expected = ['zone warn', 'zone debug', 'child debug', 'own debug', 'zone warn'];
    assert.deepStrictEqual(
      recordsOf(follower).map(({ msg }) => msg),
      expected,
    );
    assert.deepStrictEqual(
      written.map((line) => parseJsonObject(line)?.msg),
      expected,
    );
  });

  it('drops records of a slow follower, sends it their number, and buffers no more than the bound', () => {
    const { log, tail } = logWithTail();
    const slow = new PassThrough({ highWaterMark: 1024 });
    const quick = new PassThrough({ highWaterMark: 64 * 1024 * 1024 });
    tail.follow(slow, {});
    tail.follow(quick, {});
    const padding = 'x'.repeat(1000);
    const sent = 2000;
    for (let i = 0; i < sent; i++) {
      log.info({ i, padding }, 'one of many');
    }
    assert(slow.writableLength + slow.readableLength <= MOST_UNREAD_BYTES + 4096);
    assert.strictEqual(recordsOf(quick).length, sent);
    const got: JsonObject[] = [];
    let rest = recordsOf(slow);
    while (rest.length > 0) {
      got.push(...rest);
      rest = recordsOf(slow);
    }
    log.info('after it');
    got.push(...recordsOf(slow));
    const seen = got.filter(({ msg }) => msg === 'one of many').length;
    const lost = got.reduce((n, { lost: more }) => n + (typeof more === 'number' ? more : 0), 0);
    assert(lost > 0, 'it was slow enough to lose some');
    assert.strictEqual(seen + lost, sent);
    assert.strictEqual(got.at(-1)?.msg, 'after it');
  });

  it('removes a follower that disconnects, and accepts no more than the bound', () => {
    const { log, tail } = logWithTail();
    const followers = Array.from({ length: MOST_FOLLOWERS }, () => new PassThrough());
    assert(followers.every((follower) => tail.follow(follower, {})));
    assert.strictEqual(tail.follow(new PassThrough(), {}), false);
    followers.forEach((follower) => follower.destroy());
    return new Promise<void>((resolve) =>
      setImmediate(() => {
        assert.strictEqual(tail.size, 0);
        log.info('into the void');
        resolve();
      }),
    );
  });

  describe('that begins with records of the past', () => {
    function keptBy(
      options: Partial<TailOptions>,
      speak: (log: ReturnType<typeof createLogger>) => void,
    ) {
      const { log, tail } = logWithTail();
      speak(log);
      const follower = new PassThrough({ highWaterMark: 1024 * 1024 });
      assert(tail.follow(follower, { live: false, ...options }));
      assert(follower.writableEnded && tail.size === 0);
      return recordsOf(follower);
    }
    const numbersOf = (records: readonly JsonObject[]): unknown[] => records.map(({ i }) => i);
    const count = (n: number) => (log: ReturnType<typeof createLogger>) => {
      for (let i = 0; i < n; i++) {
        log.info({ i }, 'one of many');
      }
    };

    it('sends the newest of them, oldest first, and none without being asked', () => {
      assert.deepStrictEqual(numbersOf(keptBy({ last: 3 }, count(10))), [7, 8, 9]);
      assert.deepStrictEqual(keptBy({}, count(10)), []);
    });

    it('sends those since a time', async () => {
      const { log, tail } = logWithTail();
      count(3)(log);
      await new Promise((resolve) => setTimeout(resolve, 5));
      const since = Date.now();
      log.info({ i: 3 }, 'later');
      const follower = new PassThrough();
      tail.follow(follower, { live: false, since });
      assert.deepStrictEqual(numbersOf(recordsOf(follower)), [3]);
    });

    it('counts only those of the zone and of the level', () => {
      const records = keptBy({ zonename: 'a', level: 'warn', last: 2 }, (log) => {
        const [a, b] = [new ZoneLog(log, 'a', 'joyent'), new ZoneLog(log, 'b', 'joyent')];
        for (let i = 0; i < 3; i++) {
          a.warn({ i }, 'of a');
          a.info({ i: -1 }, 'of a');
          b.warn({ i: -2 }, 'of b');
        }
      });
      assert.deepStrictEqual(numbersOf(records), [1, 2]);
    });

    it('goes on with new ones', () => {
      const { log, tail } = logWithTail();
      count(2)(log);
      const follower = new PassThrough();
      tail.follow(follower, { last: 1, level: 'info' });
      log.info({ i: 9 }, 'new');
      assert.deepStrictEqual(numbersOf(recordsOf(follower)), [1, 9]);
    });

    it('keeps a bounded number, and sends a bounded number of bytes', () => {
      const all = keptBy({ last: MOST_KEPT_RECORDS * 2 }, count(MOST_KEPT_RECORDS + 5));
      const size = JSON.stringify(all[0]).length + 1;
      const fitting = Math.min(MOST_KEPT_RECORDS, Math.floor(MOST_UNREAD_BYTES / size));
      assert(Math.abs(all.length - fitting) <= fitting / 20, `${all.length} of ${fitting}`);
      assert.strictEqual(all.at(-1)?.i, MOST_KEPT_RECORDS + 4);
      const padding = 'x'.repeat(100_000);
      const large = keptBy({ last: 10 }, (log) => {
        for (let i = 0; i < 10; i++) {
          log.info({ i, padding }, 'a long one');
        }
      });
      assert.deepStrictEqual(numbersOf(large), [8, 9]);
    });
  });
});
