import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemError, codeOf } from '../../src/lib/errors';
import { DEFAULT_LINK_LIMITS } from '../../src/transport/link';
import { ROOT_ONLY } from '../../src/transport/socket-file';
import { MemoryQuota } from '../../src/transport/zone-quota';
import { PeriodicTimer } from '../../src/lib/periodic-timer';
import { Scheduler } from '../../src/lib/scheduler';
import { ZoneSocket, type ZoneSocketOptions } from '../../src/transport/socket-server';
import type { Reply } from '../../src/protocol/reply';
import { listenUnix } from '../../src/platform/sockets';
import { eventually } from '../support/eventually';
import { putFrame } from '../support/frames';
import { nothingLeft, openThings, type OpenThings } from '../support/open-things';
import { Peer } from '../support/peer';
import { unchangingWatches } from '../support/verb-options';
import { Recorder } from '../support/recorder';

const GLOBAL = { zoneid: 0, pid: 1, uid: 0 };
const ASK = 'GET k\n';
const ANSWER = 'SUCCESS\nvalue\n.\n';
/** From the loss of a socket's file until it is there again: the promise is 2 s. */
const REPAIR_MS = 2000;

describe('a zone socket', () => {
  let root: string;
  let directory: string;
  let path: string;
  let before: OpenThings;
  let recorder: Recorder;
  let links: ZoneSocket[];
  let pending: ((reply: Reply) => void)[];
  let timer: PeriodicTimer;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'zs-'));
    // The first listener of a process opens a descriptor that serves all later ones.
    const nobody = (): void => undefined;
    listenUnix(join(root, 'first'), nobody, nobody).close();
    before = openThings();
    directory = join(root, 'zonecontrol', 'zone');
    path = join(directory, 'metadata.sock');
    recorder = new Recorder();
    links = [];
    pending = [];
    timer = new PeriodicTimer(20);
  });

  afterEach(async () => {
    await Promise.all(links.map((link) => link.stop(0)));
    rmSync(root, { recursive: true });
    await nothingLeft(before);
  });

  function make(options: Partial<ZoneSocketOptions> = {}): ZoneSocket {
    const link = new ZoneSocket({
      zonename: 'zone',
      path,
      handle: (_origin, request) =>
        request.kind === 'put'
          ? new Promise((resolve) => pending.push(resolve))
          : { kind: 'success', text: 'value' },
      observer: recorder,
      limits: DEFAULT_LINK_LIMITS,
      scheduler: new Scheduler(),
      watches: unchangingWatches(),
      timer,
      log: recorder,
      memory: new MemoryQuota(() => Infinity),
      modes: ROOT_ONLY,
      peerOf: () => GLOBAL,
      accessOf: () => 'all',
      ...options,
    });
    links.push(link);
    return link;
  }

  async function started(options: Partial<ZoneSocketOptions> = {}): Promise<ZoneSocket> {
    const link = make(options);
    await link.start();
    assert.strictEqual(link.state, 'listening');
    return link;
  }

  async function answers(): Promise<boolean> {
    const socket = connect(path);
    const peer = new Peer(socket);
    peer.write(ASK);
    const text = await peer.least(ANSWER.length).catch(() => '');
    socket.destroy();
    return text === ANSWER;
  }

  it('creates directory and socket with their modes, whatever the umask', async () => {
    for (const umask of [0o000, 0o077, 0o777]) {
      const old = process.umask(umask);
      // The directory above is the zones service's, which made it when the node booted.
      mkdirSync(join(root, 'zonecontrol'), { recursive: true });
      execFileSync('chmod', ['755', join(root, 'zonecontrol')]);
      try {
        const link = await started();
        assert.strictEqual(statSync(directory).mode & 0o7777, 0o700);
        assert.strictEqual(lstatSync(path).mode & 0o7777, 0o600);
        await link.stop(0);
        link.remove();
        assert.ok(!existsSync(directory));
      } finally {
        process.umask(old);
      }
    }
  });

  it('keeps an existing directory and replaces a stale file', async () => {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const { ino } = statSync(directory);
    writeFileSync(path, 'no socket');
    await started();
    assert.strictEqual(statSync(directory).ino, ino);
    assert.strictEqual(statSync(directory).mode & 0o7777, 0o700);
    assert.deepStrictEqual(readdirSync(join(root, 'zonecontrol')), ['zone']);
    assert.deepStrictEqual(readdirSync(directory), ['metadata.sock']);
    assert.ok(await answers());
  });

  for (const [what, damage] of [
    ['removed', () => unlinkSync(path)],
    [
      'replaced',
      () => {
        writeFileSync(`${path}.new`, '');
        renameSync(`${path}.new`, path);
      },
    ],
    ['removed with its directory', () => rmSync(directory, { recursive: true })],
    [
      'moved away with its directory',
      () => {
        renameSync(directory, `${directory}.old`);
        mkdirSync(directory);
      },
    ],
  ] as const) {
    it(`serves again when its file was ${what}, and keeps the connections it has`, async () => {
      await started();
      const peer = await Peer.at(path);
      await peer.ask(ASK, ANSWER.length);
      for (let i = 0; i < 3; i++) {
        damage();
        await eventually(() => answers(), 'service', REPAIR_MS);
        rmSync(`${directory}.old`, { recursive: true, force: true });
      }
      // Once a minute, and not for each of the three.
      assert.deepStrictEqual(recorder.warnings, [
        'zone socket was removed or replaced; created it again',
      ]);
      assert.strictEqual(await peer.ask(ASK, ANSWER.length), ANSWER);
      peer.socket.destroy();
    });
  }

  it('always has a file while one agent replaces another', async () => {
    await started();
    const codes: string[] = [];
    const over = new AbortController();
    const client = (async () => {
      while (!over.signal.aborted) {
        const socket = connect(path);
        await once(socket, 'connect').catch((err: unknown) => codes.push(codeOf(err)));
        socket.destroy();
      }
    })();
    for (let i = 0; i < 10; i++) {
      await started({ timer: new PeriodicTimer(60_000) });
      // The one before sees that its file is another's, and may replace it again.
      const old = links.shift();
      await old?.stop(0);
    }
    over.abort();
    await client;
    assert.deepStrictEqual(codes, []);
    assert.ok(await answers());
  });

  it('removes only its own file, and only its own empty directory', async () => {
    const link = await started();
    await link.stop(0);
    assert.ok(existsSync(path), 'the file stays for the next agent');
    const successor = createServer();
    successor.listen(join(root, 's'));
    await once(successor, 'listening');
    renameSync(join(root, 's'), path);
    link.remove();
    assert.ok(existsSync(path));
    successor.close();
  });

  it('logs once that it cannot bind, and listens when it can', async () => {
    mkdirSync(join(root, 'zonecontrol'));
    symlinkSync('/nowhere/at/all', directory);
    const link = make();
    await link.start();
    assert.strictEqual(link.state, 'waiting');
    rmSync(directory);
    await eventually(() => link.state === 'listening');
    assert.strictEqual(recorder.warnings.length, 1);
    assert.ok(await answers());
  });

  it('serves soon after it lost its first file, though it could not bind for long before', async () => {
    mkdirSync(join(root, 'zonecontrol'));
    symlinkSync('/nowhere/at/all', directory);
    const link = make();
    await link.start();
    // 1.5 s: the next wait is of 1.6 s, and the one after it would be longer than the promise.
    await eventually(() => link.history().filter(({ state }) => state === 'waiting').length === 5);
    rmSync(directory);
    await eventually(() => link.state === 'listening');
    unlinkSync(path);
    await eventually(() => link.state === 'waiting');
    await eventually(() => answers(), 'service', REPAIR_MS);
  });

  it('waits longer each time where its file is removed as soon as it is there', async () => {
    const link = await started();
    const waits: number[] = [];
    for (let i = 0; i < 2; i++) {
      unlinkSync(path);
      link.check();
      const lostAt = performance.now();
      assert.strictEqual(link.state, 'waiting');
      await eventually(() => link.state === 'listening');
      waits.push(performance.now() - lostAt);
    }
    // Timers are never early by more than a millisecond.
    assert.ok((waits[0] ?? 0) >= 399 && (waits[1] ?? 0) >= 799, waits.join(', '));
  });

  it('refuses a path that is too long for an address', async () => {
    const logged: unknown[] = [];
    const log = {
      info: () => undefined,
      warn: (fields: Readonly<Record<string, unknown>>) => logged.push(fields.err),
    };
    const link = make({ path: join(directory, 'x'.repeat(100)), log });
    await link.start();
    const [err] = logged;
    assert.ok(err instanceof SystemError);
    assert.strictEqual(err.code, 'ENAMETOOLONG');
  });

  it('refuses a peer of another zone, and one whose zone is unknown', async () => {
    let fds = 0;
    const link = await started({
      peerOf: (fd) => {
        fds += fd > 2 ? 1 : 0;
        if (fds === 2) {
          throw new SystemError('getpeerucred', String(fd), 'ENOTCONN');
        }
        return { zoneid: 7, pid: 1, uid: 0 };
      },
      accessOf: ({ zoneid }) => (zoneid === 0 ? 'all' : 'peer'),
    });
    for (let i = 0; i < 2; i++) {
      const peer = await Peer.at(path);
      assert.strictEqual(await peer.end(), '');
      peer.socket.destroy();
    }
    assert.strictEqual(recorder.count('peer'), 2);
    assert.strictEqual(link.connections, 0);
  });

  it('refuses connections over the limit, and accepts again when one is closed', async () => {
    const link = await started();
    const peers: Peer[] = [];
    for (let i = 0; i < 64; i++) {
      const peer = await Peer.at(path);
      await peer.ask(ASK, ANSWER.length);
      peers.push(peer);
    }
    const over = await Peer.at(path);
    assert.strictEqual(await over.end(), '');
    assert.strictEqual(recorder.count('connections'), 1);
    peers[0]?.socket.destroy();
    await eventually(() => link.connections === 63);
    assert.ok(await answers());
    for (const peer of [...peers, over]) {
      peer.socket.destroy();
    }
    await eventually(() => link.connections === 0);
    assert.strictEqual(recorder.opens, recorder.closes);
  });

  it('closes a silent connection', async () => {
    await started({ limits: { ...DEFAULT_LINK_LIMITS, idleMs: 100 } });
    const peer = await Peer.at(path);
    await peer.end();
    peer.socket.destroy();
    assert.strictEqual(recorder.count('idle'), 1);
  });

  it('answers what was asked within the grace when it stops, then closes all', async () => {
    const link = await started();
    const quick = await Peer.at(path);
    const stuck = await Peer.at(path);
    quick.write(putFrame('0000000a', 'a', 'b'));
    stuck.write(putFrame('0000000b', 'a', 'b'));
    await eventually(() => pending.length === 2);
    // Answered, though it was sent just before the end.
    const late = await Peer.at(path);
    await late.ask(ASK, ANSWER.length);
    late.write(ASK);
    const stopped = link.stop(300);
    pending[0]?.({ kind: 'success', text: 'OK' });
    assert.match(await quick.end(), / 0000000a SUCCESS /);
    assert.strictEqual(await late.end(), ANSWER + ANSWER);
    await stopped;
    assert.strictEqual(await stuck.end(), '');
    assert.strictEqual(link.state, 'stopped');
    assert.strictEqual(link.stop(0), link.stop(0));
    for (const peer of [quick, stuck, late]) {
      peer.socket.destroy();
    }
  });

  it('stops while it starts', async () => {
    const link = make();
    const start = link.start();
    await link.stop(0);
    await start;
    link.remove();
    assert.ok(!existsSync(path));
  });
});
