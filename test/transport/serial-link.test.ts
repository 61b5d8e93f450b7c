import assert from 'node:assert';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DEFAULT_LINK_LIMITS } from '../../src/transport/limits';
import { PortReads } from '../../src/transport/net-stream';
import { SerialLink, type PortFacts, type SerialOptions } from '../../src/transport/serial-link';
import { ZoneRoots } from '../../src/platform/zone-root';
import { Scheduler } from '../../src/lib/scheduler';
import { DialLimiter } from '../../src/transport/serial-dialer';
import type { Reply } from '../../src/protocol/reply';
import { Ttyb, type TtybKind } from '../../tools/simcn/ttyb';
import { eventually } from '../support/eventually';
import { frame, putFrame } from '../support/frames';
import { openThings, type OpenThings } from '../support/open-things';
import { stillWatches } from '../support/new-verbs';
import { Recorder, ToldOfPort } from '../support/recorder';

/** From the moment at which a connection is possible again. */
const RECONNECT_MS = 500;

describe('a serial link', () => {
  let zonepath: string;
  let zoneroot: string;
  let roots: ZoneRoots;
  let path: string;
  let before: OpenThings;
  let recorder: Recorder;
  let ports: Ttyb[];
  let links: SerialLink[];
  let pending: ((reply: Reply) => void)[];
  let told: ToldOfPort;

  beforeEach(() => {
    before = openThings();
    zonepath = mkdtempSync(join(tmpdir(), 'sl-'));
    zoneroot = join(zonepath, 'root');
    mkdirSync(zoneroot);
    roots = new ZoneRoots(zonepath);
    path = join(zoneroot, 'tmp', 'vm.ttyb');
    recorder = new Recorder();
    told = new ToldOfPort();
    ports = [];
    links = [];
    pending = [];
  });

  afterEach(async () => {
    await Promise.all(links.map((link) => link.stop(0)));
    await Promise.all(ports.map((port) => port.stop()));
    await roots.stop();
    rmSync(zonepath, { recursive: true });
    await eventually(() => openThings().descriptors <= before.descriptors, 'all closed');
    assert.deepStrictEqual(openThings(), before);
  });

  function make(options: Partial<SerialOptions> = {}): SerialLink {
    const link = new SerialLink({
      zonename: 'zone',
      root: roots.of(zonepath),
      zoneOfPeer: () => 'zone',
      facts: () => Promise.resolve({ com2: 'socket,/tmp/vm.ttyb' }),
      handle: (_origin, request) =>
        request.kind === 'put'
          ? new Promise((resolve) => pending.push(resolve))
          : { kind: 'success', text: 'value' },
      observer: recorder,
      portObserver: told,
      ranBefore: false,
      limits: DEFAULT_LINK_LIMITS,
      turns: new Scheduler(),
      watches: stillWatches(),
      dialLimiter: new DialLimiter(),
      portReads: new PortReads(),
      log: recorder,
      ...options,
    });
    links.push(link);
    return link;
  }

  function port(kind: TtybKind = 'bhyve', at = path): Ttyb {
    const made = new Ttyb({ path: at, kind });
    ports.push(made);
    return made;
  }

  /** A guest's program resets the protocol and is answered, within `ms`, trying as a client does. */
  async function served(ttyb: Ttyb, ms = RECONNECT_MS): Promise<void> {
    const begin = performance.now();
    await eventually(() => ttyb.connected, 'a connection', ms);
    const heard: Buffer[] = [];
    const listener = (chunk: Buffer): number => heard.push(chunk);
    ttyb.guest.on('data', listener);
    ttyb.guest.write('\n');
    const left = ms - (performance.now() - begin);
    await eventually(() => Buffer.concat(heard).toString() === 'invalid command\n', 'answer', left);
    ttyb.guest.removeListener('data', listener);
  }

  async function running(link: SerialLink, ttyb: Ttyb): Promise<void> {
    await ttyb.start();
    link.zoneRunning();
    await served(ttyb);
  }

  it('serves a guest, and tells how long that took', async () => {
    const link = make();
    const ttyb = port();
    const { connectedAfterMs: atFirst } = link.counts;
    assert.strictEqual(atFirst, null);
    await running(link, ttyb);
    assert.deepStrictEqual(told.facts, ['connected'], 'a bare reset is no request');
    ttyb.guest.write('GET k\n');
    await eventually(() => link.counts.answeredAfterMs !== null, 'an answer');
    const { attempts, connects, reconnects, connectedAfterMs, answeredAfterMs } = link.counts;
    assert.deepStrictEqual([attempts, connects, reconnects], [1, 1, 0]);
    assert.ok(connectedAfterMs !== null && answeredAfterMs !== null);
    assert.ok(connectedAfterMs <= answeredAfterMs && answeredAfterMs < RECONNECT_MS);
    assert.deepStrictEqual([link.state, link.connections, link.path], ['connected', 1, path]);
    assert.deepStrictEqual(told.facts, ['connected', 'first answered']);
    assert.deepStrictEqual(told.connects, [{ afterMs: connectedAfterMs, bootSeen: true }]);
    assert.deepStrictEqual(told.firstAnswers, [{ afterMs: answeredAfterMs, bootSeen: true }]);
  });

  it('tells of a silent guest when it has stayed for a second', async () => {
    const link = make();
    const ttyb = port();
    await ttyb.start();
    link.zoneRunning();
    await eventually(() => ttyb.connected);
    assert.deepStrictEqual(told.facts, []);
    await eventually(() => told.facts.length > 0, 'the word', 2000);
    assert.deepStrictEqual(told.facts, ['connected']);
    assert.ok((told.connects[0]?.afterMs ?? Infinity) < RECONNECT_MS);
  });

  it('takes no time for that of a boot which nobody saw, and the next boot for one', async () => {
    const link = make({ ranBefore: true });
    const ttyb = port();
    await running(link, ttyb);
    ttyb.guest.write('KEYS\n');
    await eventually(() => told.firstAnswers.length === 1);
    link.zoneStopped();
    await eventually(() => !ttyb.connected);
    link.zoneRunning();
    await served(ttyb);
    ttyb.guest.write('GET k\n');
    await eventually(() => told.firstAnswers.length === 2);
    const seen = told.firstAnswers.map(({ bootSeen }) => bootSeen);
    assert.deepStrictEqual(seen, [false, true]);
    const boot = ['connected', 'first answered'];
    assert.deepStrictEqual(told.facts, [...boot, 'disconnected', ...boot]);
  });

  it('tells how long a guest that reboots had nobody to talk to', async () => {
    const link = make();
    const ttyb = port();
    await running(link, ttyb);
    await ttyb.stop();
    await delay(150);
    await ttyb.start();
    await served(ttyb);
    assert.deepStrictEqual(told.facts, ['connected', 'disconnected', 'reconnected']);
    const away = told.aways[0] ?? 0;
    assert.ok(away >= 145 && away < 150 + RECONNECT_MS, String(away));
    assert.strictEqual(link.counts.reconnects, 1);
    await link.stop(0);
    assert.deepStrictEqual(told.facts.slice(3), ['disconnected', 'ended']);
  });

  it('counts what was no request, before the guest leaves and after', async () => {
    const link = make();
    const ttyb = port();
    await running(link, ttyb);
    // Noise before a frame, a frame with a wrong length, and a rest that no client ends.
    const noise = '\0\0login: ';
    const whole = frame('0000000a', 'GET', 'k');
    const broken = 'V2 99 00000000 0000000b GET aw==';
    ttyb.guest.write(Buffer.concat([Buffer.from(noise), whole, Buffer.from(`${broken}\n`)]));
    await eventually(() => link.counts.answeredAfterMs !== null, 'an answer');
    assert.strictEqual(link.counts.droppedBytes, noise.length + broken.length);
    ttyb.guest.write('\n');
    await eventually(() => told.droppedBytes > 0, 'the word');
    await ttyb.stop();
    await eventually(() => told.facts.includes('disconnected'));
    assert.strictEqual(told.droppedBytes, noise.length + broken.length);
    assert.strictEqual(link.counts.droppedBytes, told.droppedBytes);
  });

  it('says nothing unasked', async () => {
    const ttyb = port();
    const link = make();
    await ttyb.start();
    link.zoneRunning();
    await eventually(() => ttyb.connected);
    await delay(50);
    assert.strictEqual(recorder.sentBytes, 0);
  });

  describe('when the guest reboots, finds the new port within half a second', () => {
    type Event = 'close' | 'restarts' | 'unlink' | 'appear';
    const events: readonly Event[] = ['close', 'restarts', 'unlink', 'appear'];
    // The new port appears after the old file is gone; all else may come in any order.
    const orders = permutations(events).filter(
      (order) => order.indexOf('unlink') < order.indexOf('appear'),
    );
    for (const order of orders) {
      for (const gapMs of [0, 120]) {
        it(`${order.join(', ')}, ${gapMs} ms apart`, async () => {
          const link = make();
          const old = port('bhyve', join(zoneroot, 'old', 'vm.ttyb'));
          await old.start();
          mkdirSync(join(zoneroot, 'tmp'));
          renameSync(old.path, path);
          link.zoneRunning();
          await served(old);
          const next = port();
          for (const event of order) {
            switch (event) {
              case 'close':
                await old.stop();
                break;
              case 'restarts':
                link.guestRebooted();
                break;
              case 'unlink':
                rmSync(path);
                break;
              case 'appear':
                await next.start();
                break;
              default: {
                const never: never = event;
                return never;
              }
            }
            await delay(gapMs);
          }
          await served(next);
          assert.strictEqual(link.counts.connects, 2);
        });
      }
    }

    it('though the dead file stays for a second', async () => {
      const link = make();
      const ttyb = port();
      await running(link, ttyb);
      await ttyb.stop();
      await delay(1000);
      await ttyb.start();
      await served(ttyb);
    });

    it('three times in quick succession, without an byte between', async () => {
      const link = make();
      const ttyb = port();
      await ttyb.start();
      link.zoneRunning();
      for (let i = 0; i < 3; i++) {
        await eventually(() => ttyb.connected, 'a connection', RECONNECT_MS);
        await ttyb.reboot();
        link.guestRebooted();
      }
      await served(ttyb);
      assert.strictEqual(recorder.warnings.length, 0);
    });

    it('though nobody tells of any of it', async () => {
      const link = make();
      const ttyb = port();
      await running(link, ttyb);
      await ttyb.fault('flap', 3);
      await served(ttyb);
    });

    it('and keeps the connection that it has made before it hears of the reboot', async () => {
      const link = make();
      const ttyb = port();
      await running(link, ttyb);
      await ttyb.reboot();
      await served(ttyb);
      link.guestRebooted();
      await delay(600);
      assert.deepStrictEqual([link.state, link.counts.connects], ['connected', 2]);
      await served(ttyb);
    });

    it('and keeps the connection of a kvm, whose process goes on', async () => {
      const link = make();
      const ttyb = port('kvm');
      await running(link, ttyb);
      await ttyb.reboot();
      link.guestRebooted();
      await delay(300);
      await served(ttyb);
      assert.strictEqual(link.counts.connects, 1);
    });
  });

  it('finds a port that appears long after the zone runs', async () => {
    let later = 0;
    const link = make({ now: () => performance.now() + later });
    link.zoneRunning();
    await eventually(() => link.counts.attempts > 2);
    // The quick tries are over: the next wait is as long as they get.
    later = 60_000;
    const { attempts } = link.counts;
    await eventually(() => link.counts.attempts > attempts);
    await delay(300);
    const ttyb = port();
    await ttyb.start();
    await served(ttyb);
    assert.ok(link.counts.attempts - attempts <= 4);
  });

  it('tries nothing before the data of the VM is loaded', async () => {
    let load: (facts: PortFacts | undefined) => void = () => undefined;
    let asked = 0;
    const link = make({
      facts: () => {
        asked++;
        return new Promise((resolve) => {
          load = resolve;
        });
      },
    });
    const ttyb = port();
    await ttyb.start();
    link.zoneRunning();
    link.guestRebooted();
    await delay(100);
    assert.deepStrictEqual([ttyb.connects, link.state], [0, 'loading']);
    load(undefined);
    await eventually(() => asked === 2, 'a second question');
    assert.strictEqual(ttyb.connects, 0);
    load({ com2: undefined });
    await served(ttyb);
  });

  it('tries nothing while the zone does not run', async () => {
    const link = make();
    const ttyb = port();
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
    it(`ends its tries when the zone stops while it is ${state}`, async () => {
      const link = make();
      link.zoneRunning();
      await eventually(() => link.state === state);
      link.zoneStopped();
      const { attempts } = link.counts;
      const ttyb = port();
      await ttyb.start();
      await delay(250);
      assert.deepStrictEqual([link.counts.attempts, ttyb.connects], [attempts, 0]);
    });
  }

  it('leaves a port that another holds alone for a second, and warns once', async () => {
    const link = make();
    const ttyb = port();
    await ttyb.start();
    await ttyb.fault('held', 1);
    link.zoneRunning();
    await delay(2500);
    assert.ok(ttyb.connects >= 2 && ttyb.connects <= 3, String(ttyb.connects));
    assert.deepStrictEqual(recorder.warnings, ['another program holds the port of the VM']);
    assert.strictEqual(link.counts.held, ttyb.connects);
    assert.strictEqual(link.counts.reconnects, 0);
    assert.deepStrictEqual(new Set(told.facts), new Set(['held']));
    await ttyb.fault('held', 0);
    // A new process of the hypervisor is noticed at once, however long the wait still is.
    await ttyb.reboot();
    await served(ttyb);
  });

  for (const [what, spoil, words] of [
    [
      'a link in the place of tmp',
      () => symlinkSync(join(zoneroot, 'other'), join(zoneroot, 'tmp')),
      'ELOOP',
    ],
    [
      'a link in the place of the port',
      () => {
        mkdirSync(join(zoneroot, 'tmp'));
        symlinkSync(join(zoneroot, 'other', 'vm.ttyb'), path);
      },
      'ELOOP',
    ],
    ['a file in the place of tmp', () => writeFileSync(join(zoneroot, 'tmp'), ''), 'ENOTDIR'],
    [
      'a file in the place of the port',
      () => {
        mkdirSync(join(zoneroot, 'tmp'));
        writeFileSync(path, '');
      },
      'ENOTSOCK',
    ],
  ] as const) {
    it(`does not follow ${what}, and connects when it is right`, async () => {
      const other = port('bhyve', join(zoneroot, 'other', 'vm.ttyb'));
      await other.start();
      spoil();
      const codes: unknown[] = [];
      const link = make({
        log: {
          info: () => undefined,
          warn: ({ err }) => codes.push(err instanceof Error && 'code' in err ? err.code : err),
        },
      });
      link.zoneRunning();
      await eventually(() => link.state === 'waiting');
      await delay(200);
      assert.deepStrictEqual([other.connects, codes], [0, [words]]);
      rmSync(join(zoneroot, 'tmp'), { recursive: true });
      const ttyb = port();
      await ttyb.start();
      await served(ttyb);
    });
  }

  it('goes where com2 says', async () => {
    const link = make({ facts: () => Promise.resolve({ com2: 'socket,/var/run/port' }) });
    const ttyb = port('bhyve', join(zoneroot, 'var', 'run', 'port'));
    await running(link, ttyb);
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
    it(`knows no channel where com2 is ${JSON.stringify(com2)}`, async () => {
      const link = make({ facts: () => Promise.resolve({ com2 }) });
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
    const link = make();
    const ttyb = port();
    await running(link, ttyb);
    let text = '';
    ttyb.guest.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    ttyb.guest.write(putFrame('0000000a', 'a', 'b'));
    await eventually(() => pending.length === 1);
    const stopped = link.stop(1000);
    pending[0]?.({ kind: 'success', text: 'OK' });
    await stopped;
    await eventually(() => text.includes(' 0000000a SUCCESS '));
    await eventually(() => !ttyb.connected);
    assert.strictEqual(link.state, 'stopped');
    link.zoneRunning();
    link.guestRebooted();
    assert.strictEqual(link.state, 'stopped');
  });

  it('stops within its grace though an answer is missing', async () => {
    const link = make();
    const ttyb = port();
    await running(link, ttyb);
    ttyb.guest.write(putFrame('0000000a', 'a', 'b'));
    await eventually(() => pending.length === 1);
    await link.stop(50);
    assert.strictEqual(link.connections, 0);
  });
});

function permutations<T>(of: readonly T[]): T[][] {
  if (of.length <= 1) {
    return [[...of]];
  }
  return of.flatMap((first, i) =>
    permutations([...of.slice(0, i), ...of.slice(i + 1)]).map((rest) => [first, ...rest]),
  );
}
