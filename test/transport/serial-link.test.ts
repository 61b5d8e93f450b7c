import assert from 'node:assert';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../support/eventually';
import { frame, putFrame } from '../support/frames';
import { RECONNECT_MS, served, SerialWorld } from '../support/serial-links';

/** The first wait after a dial that was refused, and what the dial takes. */
const SLOW_DIAL_MS = 1000 + RECONNECT_MS;

describe('a serial link', () => {
  let world: SerialWorld;

  beforeEach(() => {
    world = new SerialWorld();
  });

  afterEach(() => world.end());

  it('serves a guest, and reports how long that took', async () => {
    const link = world.link();
    const ttyb = world.port();
    const { connectedAfterMs: atFirst } = link.counts;
    assert.strictEqual(atFirst, null);
    await world.running(link, ttyb);
    assert.deepStrictEqual(world.logged, ['guest connected'], 'a bare reset is no request');
    ttyb.guest.write('GET k\n');
    await eventually(() => link.counts.answeredAfterMs !== null, 'an answer');
    const { attempts, connects, reconnects, connectedAfterMs, answeredAfterMs } = link.counts;
    assert.deepStrictEqual([attempts, connects, reconnects], [1, 1, 0]);
    assert.ok(connectedAfterMs !== null && answeredAfterMs !== null);
    assert.ok(connectedAfterMs <= answeredAfterMs && answeredAfterMs < RECONNECT_MS);
    assert.deepStrictEqual([link.state, link.connections, link.path], ['connected', 1, world.path]);
    assert.deepStrictEqual(world.recorder.records, [
      { msg: 'guest connected', after_ms: Math.round(connectedAfterMs) },
      { msg: 'first request answered', after_ms: Math.round(answeredAfterMs) },
    ]);
    assert.strictEqual(world.metrics.bootToAnswer.count, 1);
  });

  it('reports the connection of a silent guest after a second', async () => {
    const link = world.link();
    const ttyb = world.port();
    await ttyb.start();
    link.zoneRunning();
    await eventually(() => ttyb.connected);
    assert.deepStrictEqual(world.logged, []);
    await eventually(() => world.logged.length > 0, 'a report', 2000);
    assert.deepStrictEqual(world.logged, ['guest connected']);
    assert.ok((link.counts.connectedAfterMs ?? Infinity) < RECONNECT_MS);
  });

  it('marks the times of a zone that ran before the agent, and not those of its next boot', async () => {
    const link = world.link({ ranBefore: true });
    const ttyb = world.port();
    await world.running(link, ttyb);
    ttyb.guest.write('KEYS\n');
    await eventually(() => link.counts.answeredAfterMs !== null);
    link.zoneStopped();
    await eventually(() => !ttyb.connected);
    link.zoneRunning();
    await served(ttyb);
    ttyb.guest.write('GET k\n');
    await eventually(() => link.counts.answeredAfterMs !== null);
    const boot = ['guest connected', 'first request answered'];
    assert.deepStrictEqual(world.logged, [...boot, 'guest disconnected', ...boot]);
    const marks = world.recorder.records.map((record) => record.ran_before);
    assert.deepStrictEqual(marks, [true, true, undefined, undefined, undefined]);
    assert.strictEqual(world.metrics.bootToAnswer.count, 1, 'of the boot that was seen');
  });

  it('reports how long a rebooting guest had no connection', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    await ttyb.stop();
    await delay(150);
    await ttyb.start();
    await served(ttyb);
    const life = ['guest connected', 'guest disconnected', 'guest reconnected'];
    assert.deepStrictEqual(world.logged, life);
    const away = Number(world.recorder.records.at(-1)?.away_ms);
    assert.ok(away >= 145 && away < 150 + RECONNECT_MS, String(away));
    assert.strictEqual(link.counts.reconnects, 1);
    await link.stop(0);
    assert.deepStrictEqual(world.logged.slice(3), ['guest disconnected']);
  });

  it('counts bytes that were not part of a request, before a disconnect and after', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    // Noise before a frame, and a frame with a wrong length.
    const noise = '\0\0login: ';
    const whole = frame('0000000a', 'GET', 'k');
    const broken = 'V2 99 00000000 0000000b GET aw==';
    ttyb.guest.write(Buffer.concat([Buffer.from(noise), whole, Buffer.from(`${broken}\n`)]));
    await eventually(() => link.counts.answeredAfterMs !== null, 'an answer');
    assert.strictEqual(link.counts.droppedBytes, noise.length + broken.length);
    ttyb.guest.write('\n');
    await ttyb.stop();
    await eventually(() => world.logged.includes('guest disconnected'));
    assert.strictEqual(link.counts.droppedBytes, noise.length + broken.length);
    assert.strictEqual(world.metrics.ports.droppedBytes, link.counts.droppedBytes);
    const logged = world.recorder.records.map((record) => Number(record.dropped_bytes ?? 0));
    assert.deepStrictEqual(logged, [0, noise.length, broken.length]);
  });

  it('sends nothing that was not requested', async () => {
    const ttyb = world.port();
    const link = world.link();
    await ttyb.start();
    link.zoneRunning();
    await eventually(() => ttyb.connected);
    await delay(50);
    assert.strictEqual(world.recorder.sentBytes, 0);
  });

  it('connects to a port that appears long after the zone runs', async () => {
    let later = 0;
    const link = world.link({ now: () => performance.now() + later });
    link.zoneRunning();
    await eventually(() => link.counts.attempts > 2);
    // The fast dials are over: the next wait is the longest.
    later = 60_000;
    const { attempts } = link.counts;
    await eventually(() => link.counts.attempts > attempts);
    await delay(300);
    const ttyb = world.port();
    await ttyb.start();
    await served(ttyb);
    assert.ok(link.counts.attempts - attempts <= 4);
  });

  it('does not dial before the data of the VM is loaded', async () => {
    let load: (facts: { readonly com2: unknown } | undefined) => void = () => undefined;
    let asked = 0;
    const link = world.link({
      facts: () => {
        asked++;
        return new Promise((resolve) => {
          load = resolve;
        });
      },
    });
    const ttyb = world.port();
    await ttyb.start();
    link.zoneRunning();
    link.guestRebooted();
    await delay(100);
    assert.deepStrictEqual([ttyb.connects, link.state], [0, 'loading']);
    load(undefined);
    await eventually(() => asked === 2, 'a second request');
    assert.strictEqual(ttyb.connects, 0);
    load({ com2: undefined });
    await served(ttyb);
  });

  it('does not dial while the zone does not run', async () => {
    const link = world.link();
    const ttyb = world.port();
    await ttyb.start();
    link.guestRebooted();
    link.zoneStopped();
    await delay(200);
    assert.deepStrictEqual([ttyb.connects, link.counts.attempts], [0, 0]);
    link.zoneRunning();
    await served(ttyb);
    link.zoneStopped();
    await eventually(() => !ttyb.connected);
    await ttyb.reboot();
    link.guestRebooted();
    const { attempts } = link.counts;
    await delay(300);
    assert.deepStrictEqual([link.counts.attempts, link.state], [attempts, 'idle']);
    link.zoneRunning();
    await served(ttyb);
  });

  for (const state of ['waiting', 'connecting'] as const) {
    it(`stops dialling when the zone stops while it is ${state}`, async () => {
      const link = world.link();
      link.zoneRunning();
      await eventually(() => link.state === state);
      link.zoneStopped();
      const { attempts } = link.counts;
      const ttyb = world.port();
      await ttyb.start();
      await delay(250);
      assert.strictEqual(link.counts.attempts, attempts);
      // A dial that was under way may still reach the port: it is closed then, unused.
      assert.ok(ttyb.connects <= (state === 'connecting' ? 1 : 0), `${ttyb.connects} connects`);
      await eventually(() => !ttyb.connected);
      assert.deepStrictEqual([link.state, link.connections], ['idle', 0]);
    });
  }

  it('dials a port that another process has once a second, and warns once', async () => {
    const link = world.link();
    const ttyb = world.port();
    await ttyb.start();
    await ttyb.fault('held', 1);
    link.zoneRunning();
    await delay(2500);
    assert.ok(ttyb.connects >= 2 && ttyb.connects <= 3, String(ttyb.connects));
    assert.deepStrictEqual(world.recorder.warnings, ['serial port is in use by another process']);
    assert.strictEqual(link.counts.held, ttyb.connects);
    assert.strictEqual(link.counts.reconnects, 0);
    assert.strictEqual(world.metrics.ports.held, ttyb.connects);
    assert.deepStrictEqual(world.logged, []);
    await ttyb.fault('held', 0);
    // A new process of the hypervisor is dialled at once, however long the wait is.
    await ttyb.reboot();
    link.guestRebooted();
    await served(ttyb);
  });

  for (const [what, damage, code] of [
    [
      'a link in the place of tmp',
      () => symlinkSync(join(world.zoneroot, 'other'), join(world.zoneroot, 'tmp')),
      'ELOOP',
    ],
    [
      'a link in the place of the port',
      () => {
        mkdirSync(join(world.zoneroot, 'tmp'));
        symlinkSync(join(world.zoneroot, 'other', 'vm.ttyb'), world.path);
      },
      'ELOOP',
    ],
    ['a file in the place of tmp', () => writeFileSync(join(world.zoneroot, 'tmp'), ''), 'ENOTDIR'],
    [
      'a file in the place of the port',
      () => {
        mkdirSync(join(world.zoneroot, 'tmp'));
        writeFileSync(world.path, '');
      },
      'ENOTSOCK',
    ],
  ] as const) {
    it(`does not follow ${what}, and connects when it is right`, async () => {
      const other = world.port('bhyve', join(world.zoneroot, 'other', 'vm.ttyb'));
      await other.start();
      damage();
      const codes: unknown[] = [];
      const link = world.link({
        log: {
          info: () => undefined,
          warn: ({ err }) => codes.push(err instanceof Error && 'code' in err ? err.code : err),
        },
      });
      link.zoneRunning();
      await eventually(() => link.state === 'waiting');
      await delay(200);
      assert.deepStrictEqual([other.connects, codes], [0, [code]]);
      rmSync(join(world.zoneroot, 'tmp'), { recursive: true });
      const ttyb = world.port();
      await ttyb.start();
      await served(ttyb, SLOW_DIAL_MS);
    });
  }

  it('connects to the port that com2 names', async () => {
    const link = world.link({ facts: () => Promise.resolve({ com2: 'socket,/var/run/port' }) });
    const ttyb = world.port('bhyve', join(world.zoneroot, 'var', 'run', 'port'));
    await world.running(link, ttyb);
    assert.strictEqual(link.path, ttyb.path);
  });

  for (const com2 of [
    '/dev/zconsole',
    'socket,tmp/x',
    'socket,/tmp/../x',
    'socket,//',
    'socket,/a,wait',
    7,
    '',
  ]) {
    it(`does not dial when com2 is ${JSON.stringify(com2)}`, async () => {
      const link = world.link({ facts: () => Promise.resolve({ com2 }) });
      link.zoneRunning();
      await eventually(() => link.state === 'none');
      link.guestRebooted();
      await eventually(() => link.state === 'none');
      assert.strictEqual(link.counts.attempts, 0);
      link.zoneStopped();
      assert.strictEqual(link.state, 'idle');
    });
  }

  it('answers what was asked before it stops', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    let text = '';
    ttyb.guest.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    ttyb.guest.write(putFrame('0000000a', 'a', 'b'));
    await eventually(() => world.pending.length === 1);
    const stopped = link.stop(1000);
    world.pending[0]?.({ kind: 'success', text: 'OK' });
    await stopped;
    await eventually(() => text.includes(' 0000000a SUCCESS '));
    await eventually(() => !ttyb.connected);
    assert.strictEqual(link.state, 'stopped');
    link.zoneRunning();
    link.guestRebooted();
    assert.strictEqual(link.state, 'stopped');
  });

  it('stops within its grace though a reply is missing', async () => {
    const link = world.link();
    const ttyb = world.port();
    await world.running(link, ttyb);
    ttyb.guest.write(putFrame('0000000a', 'a', 'b'));
    await eventually(() => world.pending.length === 1);
    await link.stop(50);
    assert.strictEqual(link.connections, 0);
  });
});
