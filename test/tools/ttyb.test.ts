import assert from 'node:assert';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ttyb, type TtybKind } from '../../tools/simcn/ttyb';
import { eventually } from '../support/eventually';
import { Peer } from '../support/peer';

describe('a simulated serial port', () => {
  let directory: string;
  let path: string;
  let ports: Ttyb[];
  let peers: Peer[];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'tb-'));
    path = join(directory, 'tmp', 'vm.ttyb');
    ports = [];
    peers = [];
  });

  afterEach(async () => {
    for (const peer of peers) {
      peer.socket.destroy();
    }
    await Promise.all(ports.map((port) => port.stop()));
    rmSync(directory, { recursive: true });
  });

  async function start(kind: TtybKind, guestPath?: string): Promise<Ttyb> {
    const port = new Ttyb({ path, kind, ...(guestPath === undefined ? {} : { guestPath }) });
    ports.push(port);
    await port.start();
    return port;
  }

  async function host(at = path): Promise<Peer> {
    const peer = await Peer.at(at);
    peers.push(peer);
    return peer;
  }

  for (const kind of ['bhyve', 'kvm'] as const) {
    it(`carries bytes both ways (${kind})`, async () => {
      const port = await start(kind);
      const peer = await host();
      await eventually(() => port.connected);
      const received = once(port.guest, 'data');
      peer.write('to the guest');
      assert.deepStrictEqual(await received, [Buffer.from('to the guest')]);
      port.guest.write('to the host');
      assert.strictEqual(await peer.least(11), 'to the host');
    });

    it(`leaves its file behind, with nobody there (${kind})`, async () => {
      const port = await start(kind);
      await port.stop();
      assert.ok(existsSync(path));
      const socket = connect(path);
      const [err] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
      assert.strictEqual(err.code, 'ECONNREFUSED');
    });

    it(`loses what is written while nobody is connected (${kind})`, async () => {
      const port = await start(kind);
      port.guest.write('lost');
      const peer = await host();
      await eventually(() => port.connected);
      port.guest.write('hello');
      assert.strictEqual(await peer.least(5), 'hello');
      assert.strictEqual(port.guest.lost, 4);
    });

    it(`loses what a host does not read (${kind})`, async () => {
      const port = await start(kind);
      const peer = await host();
      peer.socket.pause();
      await eventually(() => port.connected);
      for (let i = 0; i < 200; i++) {
        port.guest.write(Buffer.alloc(16 * 1024, 'x'));
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.ok(port.guest.lost > 0);
    });

    it(`throws away what the guest did not read when it opens the port (${kind})`, async () => {
      const port = await start(kind);
      const peer = await host();
      await eventually(() => port.connected);
      peer.write('stale');
      await eventually(() => port.guest.unreadBytes === 5);
      port.guest.open();
      const received = once(port.guest, 'data');
      peer.write('fresh');
      assert.deepStrictEqual(await received, [Buffer.from('fresh')]);
      assert.strictEqual(port.guest.discarded, 5);
    });
  }

  it('shuts a second client of bhyve at once and keeps the first', async () => {
    const port = await start('bhyve');
    const first = await host();
    await eventually(() => port.connected);
    assert.strictEqual(await (await host()).end(), '');
    port.guest.write('x');
    assert.strictEqual(await first.least(1), 'x');
    assert.strictEqual(port.connects, 2);
  });

  it('lets a second client of kvm wait, and serves it when the first left', async () => {
    const port = await start('kvm');
    const first = await host();
    await eventually(() => port.connected);
    const second = await host();
    second.write('said early');
    await eventually(() => port.connects === 2);
    assert.ok(!second.over);
    const received = once(port.guest, 'data');
    first.socket.destroy();
    assert.deepStrictEqual(await received, [Buffer.from('said early')]);
  });

  it('replaces its file when a guest of bhyve reboots, and nothing when one of kvm does', async () => {
    const bhyve = await start('bhyve');
    const peer = await host();
    await eventually(() => bhyve.connected);
    const before = statSync(path, { bigint: true }).ctimeNs;
    await bhyve.reboot();
    await peer.end();
    assert.notStrictEqual(statSync(path, { bigint: true }).ctimeNs, before);
    await bhyve.stop();
    const kvm = await start('kvm');
    const other = await host();
    await eventually(() => kvm.connected);
    await kvm.reboot();
    kvm.guest.write('x');
    assert.strictEqual(await other.least(1), 'x');
  });

  it('can be held, lose bytes and flap', async () => {
    const port = await start('bhyve');
    await port.fault('held', 1);
    assert.strictEqual(await (await host()).end(), '');
    await port.fault('held', 0);
    await port.fault('flap', 2);
    const peer = await host();
    await eventually(() => port.connected);
    await port.fault('drop', 5);
    port.guest.write('0123456789');
    assert.strictEqual(await peer.least(8), '01235678');
  });

  it('gives a program in the guest a fresh port', async () => {
    const tty = join(directory, 'tty');
    const port = await start('bhyve', tty);
    const peer = await host();
    await eventually(() => port.connected);
    peer.write('stale');
    await eventually(() => port.guest.unreadBytes === 5);
    const program = await host(tty);
    program.write('\n');
    assert.strictEqual(await peer.least(1), '\n');
    assert.strictEqual(await program.ask('', 0), '');
    peer.write('invalid command\n');
    assert.strictEqual(await program.least(16), 'invalid command\n');
  });
});
