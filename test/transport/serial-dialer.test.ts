import assert from 'node:assert';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { codeOf, SystemError } from '../../src/lib/errors';
import { ZoneRoots, type ZoneRoot } from '../../src/platform/zone-root';
import { DialAttempts, dialPort } from '../../src/transport/serial-dialer';
import { Ttyb } from '../../tools/simcn/ttyb';
import { eventually } from '../support/eventually';
import { Recorder } from '../support/recorder';

const PORT = '/tmp/vm.ttyb';

describe('one dial of a serial port', () => {
  let zonepath: string;
  let zoneroot: string;
  let roots: ZoneRoots;
  let root: ZoneRoot;
  let own: Ttyb;

  beforeEach(async () => {
    zonepath = mkdtempSync(join(tmpdir(), 'pd-'));
    zoneroot = join(zonepath, 'root');
    mkdirSync(zoneroot);
    roots = new ZoneRoots(zonepath);
    root = roots.of(zonepath);
    own = new Ttyb({ path: join(zoneroot, PORT), kind: 'bhyve' });
    await own.start();
  });

  afterEach(async () => {
    await own.stop();
    roots.stop();
    rmSync(zonepath, { recursive: true });
  });

  /** @param listener the zone of the listening process */
  function dial(
    found: (identity: string) => void,
    listener = 'zone',
    signal = new AbortController().signal,
  ): Promise<Socket> {
    return dialPort({ zonename: 'zone', root, zoneOfPeer: () => listener }, PORT, found, signal);
  }

  it('connects to the file that it found', async () => {
    let seen = '';
    const socket = await dial((identity) => (seen = identity));
    assert.strictEqual(seen, await root.find(PORT));
    assert.strictEqual(socket.isPaused(), true);
    socket.destroy();
  });

  it('reports the file that it found though nobody listens', async () => {
    await own.stop();
    let seen = '';
    await assert.rejects(
      dial((identity) => (seen = identity)),
      { code: 'ECONNREFUSED' },
    );
    assert.strictEqual(seen, await root.find(PORT));
  });

  for (const other of ['other', 'global']) {
    it(`refuses a port at which a process of zone ${other} listens`, async () => {
      await assert.rejects(
        dial(() => undefined, other),
        { code: 'EOTHERZONE', message: new RegExp(`zone ${other} answered`) },
      );
      await eventually(() => own.connects === 1 && !own.connected, 'disconnected');
    });
  }

  it('refuses a port whose listener is unknown', async () => {
    const zoneOfPeer = (): string => {
      throw new SystemError('getpeerucred', 'descriptor 1', 'ECONNRESET');
    };
    const { signal } = new AbortController();
    const dialled = dialPort({ zonename: 'zone', root, zoneOfPeer }, PORT, () => undefined, signal);
    await assert.rejects(dialled, { code: 'ECONNRESET' });
    await eventually(() => own.connects === 1 && !own.connected, 'disconnected');
  });

  it('leaves no connection behind when it is cancelled at any time', async () => {
    for (let turns = 0; turns < 12; turns++) {
      const cancelled = new AbortController();
      const settled = dial(() => undefined, 'zone', cancelled.signal).then(
        // It was there before the end: its owner closes it.
        (socket) => socket.destroy(),
        () => undefined,
      );
      for (let n = 0; n < turns; n++) {
        await turn();
      }
      cancelled.abort();
      await settled;
      await eventually(() => !own.connected, 'disconnected');
    }
  });

  it('never takes a port that appears meanwhile for one that was replaced', async () => {
    for (let round = 0; round < 50; round++) {
      await own.stop();
      rmSync(own.path);
      const started = own.start();
      for (let socket: Socket | null = null; socket === null;) {
        socket = await root
          .dial(PORT, () => undefined)
          .catch((err: unknown) => {
            assert.notStrictEqual(codeOf(err), 'ESTALE');
            return null;
          });
        socket?.destroy();
      }
      await started;
    }
  });
});

describe('the dials of a serial port', () => {
  let now: number;
  let log: Recorder;
  let attempts: DialAttempts;

  beforeEach(() => {
    now = 1000;
    log = new Recorder();
    attempts = new DialAttempts(log, () => now);
    attempts.reset();
  });

  /** Dials and waits for that long, each dial failing with `code` at the same file. @returns the waits */
  function failFor(ms: number, code: string): number[] {
    const waits: number[] = [];
    for (const end = now + ms; now < end;) {
      attempts.found('1:2:3');
      attempts.failed(new SystemError('connect', '/p', code), '/p');
      const wait = attempts.waitMs();
      waits.push(wait);
      now += wait;
    }
    return waits;
  }

  for (const code of ['ENOENT', 'ECONNREFUSED']) {
    it(`are made ten times a second for ten seconds on ${code}, then four times`, () => {
      const waits = failFor(60_000, code);
      assert.deepStrictEqual(new Set(waits.slice(0, 100)), new Set([100]));
      assert.deepStrictEqual(new Set(waits.slice(100)), new Set([250]));
      assert.deepStrictEqual(log.warnings, []);
    });
  }

  for (const code of ['ECONNRESET', 'EAGAIN', 'ESTALE']) {
    it(`are made ten times a second for ten seconds on ${code}, then more slowly`, () => {
      const waits = failFor(60_000, code);
      assert.deepStrictEqual(new Set(waits.slice(0, 100)), new Set([100]));
      assert.deepStrictEqual(waits.slice(100, 105), [1000, 2000, 4000, 5000, 5000]);
      assert.deepStrictEqual(log.warnings, []);
    });
  }

  for (const code of ['ELOOP', 'ENOTSOCK', 'EACCES', 'ENAMETOOLONG']) {
    it(`are slow from the start on ${code}, with one warning a minute`, () => {
      const waits = failFor(179_000, code);
      assert.deepStrictEqual(waits.slice(0, 4), [1000, 2000, 4000, 5000]);
      assert.strictEqual(log.warnings.length, 3);
    });
  }

  it('are at most one a second while another process has the port, with one warning a minute', () => {
    attempts.found('1:2:3');
    attempts.busy('/p');
    assert.deepStrictEqual([attempts.waitMs(), log.warnings], [100, []], 'it may have rebooted');
    let count = 0;
    for (const end = now + 119_000; now < end; count++) {
      attempts.found('1:2:3');
      attempts.busy('/p');
      const wait = attempts.waitMs();
      assert.ok(wait >= 1000);
      now += wait;
    }
    assert.ok(count > 20, String(count));
    const words = 'serial port is in use by another process';
    assert.deepStrictEqual(log.warnings, [words, words]);
  });

  it('are fast again once the port is another file', () => {
    failFor(60_000, 'ENOENT');
    attempts.busy('/p');
    attempts.found('4:5:6');
    attempts.failed(new SystemError('connect', '/p', 'ECONNREFUSED'), '/p');
    assert.strictEqual(attempts.waitMs(), 100);
    assert.deepStrictEqual(log.warnings, []);
  });

  it('are fast after a working connection', () => {
    failFor(60_000, 'ELOOP');
    attempts.reset();
    assert.strictEqual(attempts.waitMs(), 100);
  });
});
