/*
 * The agent's eye on itself.
 */
import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { memoryCeiling, Watchdog } from '../../src/admin/watchdog';
import { parseConfig } from '../../src/config';
import type { Fields } from '../../src/log';
import { openThings } from '../support/open-things';

function log(): { said: { msg: string; fields: Fields }[]; info: () => void; warn: Speak } {
  const said: { msg: string; fields: Fields }[] = [];
  return { said, info: () => undefined, warn: (fields, msg) => void said.push({ msg, fields }) };
}
type Speak = (fields: Fields, msg: string) => void;

const none = (): number => 0;

describe('the watchdog', () => {
  it('raises an alarm above the memory ceiling, logs it once a minute, and ends it below', () => {
    const spoken = log();
    let ceiling = Infinity;
    const dog = new Watchdog(spoken, () => ceiling, none);
    dog.sample();
    assert.deepStrictEqual(dog.state().alarms, []);
    ceiling = 100;
    dog.sample();
    dog.sample();
    assert.match(
      dog
        .state()
        .alarms.map(({ text }) => text)
        .join(),
      /^memory is [\d.]+ [MG]iB, over the ceiling of 100 B/,
    );
    assert.deepStrictEqual(
      spoken.said.map(({ msg }) => msg),
      ['memory is over its ceiling'],
    );
    ceiling = Infinity;
    assert.deepStrictEqual(dog.state().alarms, []);
  });

  it('goes on with what it knows where no descriptor is left to read the memory', () => {
    const dog = new Watchdog(
      log(),
      () => Infinity,
      () => 0,
    );
    dog.sample();
    const { rssBytes } = dog.state();
    const before = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    const limit = (soft = ''): unknown =>
      execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${soft}:`]);
    const taken: number[] = [];
    limit('4096');
    try {
      assert.throws(
        () => {
          for (;;) {
            taken.push(openSync('/dev/null', 'r'));
          }
        },
        { code: 'EMFILE' },
      );
      assert.throws(() => process.memoryUsage.rss(), { code: 'EMFILE' });
      dog.sample();
      assert(rssBytes > 0 && dog.state().rssBytes > 0);
    } finally {
      taken.forEach((fd) => closeSync(fd));
      limit(before);
    }
  });

  it('reports log records that were lost lately, and where to look', () => {
    let lost = 0;
    const dog = new Watchdog(
      log(),
      () => Infinity,
      () => lost,
    );
    assert.deepStrictEqual(dog.state().alarms, []);
    lost = 3;
    const alarm = {
      reason: 'log-records-lost',
      text: 'log records are being lost, 3 since the start',
      remedy: 'df -h /var',
    };
    assert.deepStrictEqual(dog.state().alarms, [alarm]);
    // None is lost any more, but those just now were.
    assert.deepStrictEqual(dog.state().alarms, [alarm]);
  });

  it('notices a blocked loop, and leaves no timer behind', async () => {
    const before = openThings();
    const spoken = log();
    const dog = new Watchdog(spoken, () => Infinity, none);
    dog.start();
    await delay(250);
    const end = performance.now() + 500;
    while (performance.now() < end) {
      // Holds the loop up, which is what is looked for.
    }
    await delay(250);
    dog.sample();
    dog.stop();
    dog.stop();
    const { maxMs } = dog.state().loop;
    assert(maxMs > 250 && maxMs < 5000, `late by ${maxMs} ms`);
    assert.strictEqual(spoken.said[0]?.msg, 'the event loop was blocked');
    assert.deepStrictEqual(openThings(), before);
  });

  it('has a ceiling that grows with the zones and with the limits', () => {
    const { limits } = parseConfig('{}', 'defaults');
    const MIB = 1024 * 1024;
    assert.strictEqual(memoryCeiling(0, limits), 704 * MIB);
    assert.strictEqual(memoryCeiling(1, limits) - memoryCeiling(0, limits), 24 * MIB + 15 * 1024);
    assert.strictEqual(memoryCeiling(101, limits) - memoryCeiling(100, limits), 15 * 1024);
    const wide = { ...limits, unsent_bytes: limits.unsent_bytes + 8 * MIB };
    assert.strictEqual(memoryCeiling(8, wide) - memoryCeiling(8, limits), 64 * MIB);
  });
});
