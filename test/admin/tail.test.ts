/*
 * Followers of the log: what they see, and what a slow one costs.
 */
import assert from 'node:assert';
import { PassThrough, Writable } from 'node:stream';
import { addTail, levelOf, setLevel } from '../../src/admin/log-level';
import { MOST_FOLLOWERS, MOST_UNREAD_BYTES } from '../../src/admin/tail';
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
  it('shows each record to who follows all, and only its own to who follows a zone', () => {
    const { log, tail } = logWithTail();
    const [all, one] = [new PassThrough(), new PassThrough()];
    tail.follow(all, null);
    tail.follow(one, 'a');
    new ZoneLog(log, 'a', 'joyent').info({ n: 1 }, 'of a');
    new ZoneLog(log, 'b', 'joyent').info({ n: 2 }, 'of b');
    log.info('of nobody');
    const messages = (stream: PassThrough): unknown[] => recordsOf(stream).map(({ msg }) => msg);
    assert.deepStrictEqual(messages(all), ['of a', 'of b', 'of nobody']);
    assert.deepStrictEqual(messages(one), ['of a']);
  });

  it('adds to a NOTFOUND what the guest may have meant, which the log itself does not', () => {
    const { log, tail, written } = logWithTail();
    const follower = new PassThrough();
    tail.follow(follower, null);
    const query = { cmd: 'GET', arg: 'sdc:account_uuid' };
    log.info({ response: 'NOTFOUND', query }, 'handled GET');
    log.info({ response: 'SUCCESS', query }, 'handled GET');
    const hints = recordsOf(follower).map(({ hint }) => hint);
    assert.deepStrictEqual(hints, ['sdc:owner_uuid', undefined]);
    assert.doesNotMatch(written.join(''), /owner_uuid/);
  });

  it('shows what the log shows, at every level it is set to, also for loggers made before', () => {
    const { log, tail, written } = logWithTail();
    const zone = new ZoneLog(log, 'a', 'joyent');
    const child = log.child({ component: 'zones' }, true);
    zone.info({}, 'made');
    const follower = new PassThrough();
    tail.follow(follower, null);
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

  it('lets a slow follower lose records, tells it how many, and holds no more than the bound', () => {
    const { log, tail } = logWithTail();
    const slow = new PassThrough({ highWaterMark: 1024 });
    const quick = new PassThrough({ highWaterMark: 64 * 1024 * 1024 });
    tail.follow(slow, null);
    tail.follow(quick, null);
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

  it('forgets a follower that goes, and takes no more than there is room for', () => {
    const { log, tail } = logWithTail();
    const followers = Array.from({ length: MOST_FOLLOWERS }, () => new PassThrough());
    assert(followers.every((follower) => tail.follow(follower, null)));
    assert.strictEqual(tail.follow(new PassThrough(), null), false);
    followers.forEach((follower) => follower.destroy());
    return new Promise<void>((resolve) =>
      setImmediate(() => {
        assert.strictEqual(tail.size, 0);
        log.info('into the void');
        resolve();
      }),
    );
  });
});
