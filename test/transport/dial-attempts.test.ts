import assert from 'node:assert';
import { SystemError } from '../../src/lib/errors';
import { DialAttempts } from '../../src/transport/dial-attempts';
import { Recorder } from '../support/recorder';

describe('the tries to reach a port', () => {
  let now: number;
  let voice: Recorder;
  let tries: DialAttempts;

  beforeEach(() => {
    now = 1000;
    voice = new Recorder();
    tries = new DialAttempts(voice, () => now);
    tries.startOver();
  });

  /** Tries and waits for so long, each try failing with `code` at the same file. @returns the waits */
  function failFor(ms: number, code: string): number[] {
    const waits: number[] = [];
    for (const end = now + ms; now < end;) {
      tries.begun();
      tries.met('1:2:3');
      tries.failed(new SystemError('connect', '/p', code), '/p');
      const wait = Math.max(tries.waitMs(), tries.restMs());
      waits.push(wait);
      now += wait;
    }
    return waits;
  }

  for (const code of ['ENOENT', 'ECONNREFUSED', 'EAGAIN', 'ESTALE']) {
    it(`follow each other ten times a second for ten seconds on ${code}, then slower`, () => {
      const waits = failFor(60_000, code);
      assert.deepStrictEqual(new Set(waits.slice(0, 100)), new Set([100]));
      assert.deepStrictEqual(waits.slice(100, 105), [1000, 2000, 4000, 5000, 5000]);
      assert.deepStrictEqual(voice.warnings, []);
    });
  }

  for (const code of ['ELOOP', 'ENOTSOCK', 'EACCES', 'ENAMETOOLONG']) {
    it(`are slow from the start on ${code}, with one warning a minute`, () => {
      const waits = failFor(179_000, code);
      assert.deepStrictEqual(waits.slice(0, 4), [1000, 2000, 4000, 5000]);
      assert.strictEqual(voice.warnings.length, 3);
    });
  }

  it('are at most one a second where another holds the port, with one warning a minute', () => {
    let count = 0;
    for (const end = now + 119_000; now < end; count++) {
      tries.begun();
      tries.met('1:2:3');
      tries.heldByAnother('/p');
      const wait = tries.waitMs();
      assert.ok(wait >= 1000);
      now += wait;
    }
    assert.ok(count > 20, String(count));
    const words = 'another program holds the port of the VM';
    assert.deepStrictEqual(voice.warnings, [words, words]);
  });

  it('are quick again at another file, whatever was with the one before', () => {
    failFor(60_000, 'ENOENT');
    tries.heldByAnother('/p');
    tries.met('4:5:6');
    tries.failed(new SystemError('connect', '/p', 'ECONNREFUSED'), '/p');
    assert.strictEqual(tries.waitMs(), 100);
    assert.deepStrictEqual(voice.warnings, []);
  });

  it('are quick when it was our own connection that held the port', () => {
    tries.met('4:5:6');
    tries.failed(new SystemError('connect', '/p', 'ESTALE'), '/p');
    tries.heldByAnother('/p');
    assert.strictEqual(tries.waitMs(), 100);
    tries.heldByAnother('/p');
    assert.strictEqual(tries.waitMs(), 1000);
  });

  it('are quick after a connection that was one', () => {
    failFor(60_000, 'ELOOP');
    tries.lost();
    assert.strictEqual(tries.waitMs(), 100);
  });
});
