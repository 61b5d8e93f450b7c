import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { openPlatform } from '../../src/platform/libzonecfg';
import {
  zoneBrandById,
  zoneIdByName,
  zoneIds,
  zoneRootpath,
  zoneState,
  zoneStatus,
} from '../../tools/preflight/zone-calls';
import { makeNode, STATUS, type EmulatedNode } from '../support/emulated-node';
import { needsRoot } from '../support/pending';

/** What libzonecfg makes of the kernel's status. */
const STATE_OF: readonly (readonly [keyof typeof STATUS, string])[] = [
  // Nobody may ask for it by name yet, so the index tells.
  ['initialized', 'installed'],
  ['ready', 'ready'],
  ['booting', 'running'],
  ['running', 'running'],
  ['shutting_down', 'shutting_down'],
  ['empty', 'shutting_down'],
  ['down', 'down'],
  ['dying', 'down'],
  ['dead', 'down'],
];

describe('the platform through ffi', () => {
  let node: EmulatedNode;

  beforeEach(() => {
    node = makeNode();
  });

  afterEach(() => {
    node.remove();
  });

  function configuredZones(): string[] {
    return [...node.platform.zoneIndex().entries()].map(({ zonename }) => zonename);
  }

  describe('configured zones', () => {
    it('are listed without the global one, in the order of the index', () => {
      node.addZone('beta');
      node.addZone('alpha', 'lx');
      assert.deepStrictEqual(configuredZones(), ['beta', 'alpha']);
    });

    it('have a brand, a zonepath and a root without the prefix of the root', () => {
      node.addZone('alpha', 'lx');
      const { platform } = node;
      assert.strictEqual(platform.zoneBrand('alpha'), 'lx');
      assert.strictEqual(platform.zonepath('alpha'), '/zones/alpha');
      assert.strictEqual(zoneRootpath(node.root, 'alpha'), '/zones/alpha/root');
    });

    it('are in the index in the platform\u2019s format', () => {
      node.addZone('alpha');
      const lines = readFileSync(join(node.root, 'etc/zones/index'), 'utf8').split('\n');
      assert.ok(lines.includes('global:installed:/:'));
      assert.ok(lines.includes('alpha:installed:/zones/alpha:uuid-of-alpha:joyent:ex:2'));
    });

    it('are read from an index with comments and broken lines', () => {
      node.addZone('alpha');
      const index = join(node.root, 'etc/zones/index');
      assert.strictEqual(zoneState(node.root, 'alpha'), 'installed');
      const text = readFileSync(index, 'utf8').replace('alpha:installed', 'alpha:incomplete');
      writeFileSync(
        `${index}.new`,
        `${text}# a comment: with colons\n\nno colons here\nbeta:unknown:/b:`,
      );
      renameSync(`${index}.new`, index);
      assert.strictEqual(zoneState(node.root, 'alpha'), 'incomplete');
      assert.throws(() => zoneState(node.root, 'beta'), { code: 'Z_NO_ZONE' });
      // The last line had no end: the next one must not grow onto it.
      node.addZone('gamma');
      assert.strictEqual(node.platform.zonepath('gamma'), '/zones/gamma');
      assert.match(readFileSync(index, 'utf8'), /# a comment: with colons/);
    });

    it('are seen by the next call after an edit of the index in place', () => {
      node.addZone('alpha');
      assert.strictEqual(zoneState(node.root, 'alpha'), 'installed');
      appendFileSync(join(node.root, 'etc/zones/index'), 'beta:configured:/zones/beta:u\n');
      assert.strictEqual(zoneState(node.root, 'beta'), 'configured');
    });

    it('show each of a thousand fast state changes at once', () => {
      node.addZone('alpha');
      for (let i = 0; i < 1000; i++) {
        // configured and incomplete have the same length, so only the file's identity can tell.
        node.emulation.zoneIndexState('alpha', i % 2);
        assert.strictEqual(zoneState(node.root, 'alpha'), ['configured', 'incomplete'][i % 2]);
      }
    });

    it('get a new brand only from the XML', () => {
      node.addZone('alpha');
      assert.strictEqual(node.platform.zoneBrand('alpha'), 'joyent');
      const xml = join(node.root, 'etc/zones/alpha.xml');
      writeFileSync(xml, readFileSync(xml, 'utf8').replace('brand="joyent"', 'brand="bhyve"'));
      assert.strictEqual(node.platform.zoneBrand('alpha'), 'bhyve');
    });

    it('refuse a name that exists, and then create none of the batch', () => {
      node.addZone('alpha');
      const zone = { brand: 'joyent', uuid: 'u', state: 'installed' } as const;
      assert.throws(
        () =>
          node.emulation.zonesConfigure([
            { name: 'beta', zonepath: '/zones/beta', ...zone },
            { name: 'alpha', zonepath: '/zones/other', ...zone },
          ]),
        { code: 'EEXIST' },
      );
      assert.deepStrictEqual(configuredZones(), ['alpha']);
      assert.strictEqual(node.platform.zonepath('alpha'), '/zones/alpha');
    });

    for (const name of ['', '../escape', 'a:b', 'global', 'a b', 'x'.repeat(64), '-dash']) {
      it(`refuse the name ${JSON.stringify(name)}`, () => {
        assert.throws(() => node.addZone(name), { code: 'EINVAL' });
      });
    }

    it('are gone after their deletion, which is refused while the kernel knows the zone', () => {
      node.addZone('alpha');
      node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
      assert.throws(() => node.emulation.zoneDelete('alpha'), { code: 'EBUSY' });
      node.emulation.zoneStatus('alpha', STATUS.free, 0);
      node.emulation.zoneDelete('alpha');
      assert.deepStrictEqual(configuredZones(), []);
      assert.throws(() => statSync(join(node.root, 'etc/zones/alpha.xml')), { code: 'ENOENT' });
    });
  });

  describe('zones that the kernel knows', () => {
    for (const [status, state] of STATE_OF) {
      it(`are ${state} to libzonecfg while they are ${status}`, () => {
        node.addZone('alpha');
        const id = node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
        if (status !== 'initialized') {
          node.emulation.zoneStatus('alpha', STATUS[status], 0);
        }
        assert.strictEqual(zoneState(node.root, 'alpha'), state);
        assert.strictEqual(node.platform.zoneFacts('alpha')?.state, state);
        const live = node.platform.liveZones().get('alpha')?.state;
        assert.strictEqual(live, status === 'initialized' ? undefined : state);
        assert.strictEqual(zoneStatus(node.root, id), status);
      });
    }

    it('have an id at once, and are found by name from ready until they are free', () => {
      node.addZone('alpha', 'lx');
      const { platform, emulation, root } = node;
      assert.strictEqual(zoneIdByName(root, 'alpha'), undefined);
      const id = emulation.zoneStatus('alpha', STATUS.initialized, 0);
      assert.deepStrictEqual(zoneIds(root), [0, id]);
      assert.strictEqual(zoneIdByName(root, 'alpha'), undefined);
      for (const status of [STATUS.ready, STATUS.dying, STATUS.dead]) {
        emulation.zoneStatus('alpha', status, 0);
        assert.deepStrictEqual(zoneIds(root), [0, id]);
        assert.strictEqual(zoneIdByName(root, 'alpha'), id);
      }
      assert.strictEqual(platform.zoneName(id), 'alpha');
      assert.strictEqual(zoneBrandById(root, id), 'lx');
      emulation.zoneStatus('alpha', STATUS.free, 0);
      assert.deepStrictEqual(zoneIds(root), [0]);
      assert.strictEqual(zoneIdByName(root, 'alpha'), undefined);
      assert.strictEqual(zoneState(root, 'alpha'), 'installed');
      assert.throws(() => platform.zoneName(id), { code: 'EINVAL' });
    });

    it('have the native brand in the kernel, whatever they are, unless it has a module for theirs', () => {
      for (const brand of ['joyent', 'joyent-minimal', 'builder', 'kvm', 'bhyve']) {
        node.addZone(brand, brand);
        const id = node.emulation.zoneStatus(brand, STATUS.initialized, 0);
        assert.strictEqual(zoneBrandById(node.root, id), 'native');
      }
    });

    it('get an id that was not used recently', () => {
      node.addZone('alpha');
      const ids = Array.from({ length: 5 }, () => {
        const id = node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
        node.emulation.zoneStatus('alpha', STATUS.free, 0);
        return id;
      });
      assert.strictEqual(new Set(ids).size, 5);
    });

    it('are all listed when there are more than the first buffer holds', () => {
      const names = Array.from({ length: 300 }, (_, i) => `zone-${i}`);
      node.emulation.zonesConfigure(
        names.map((name) => ({
          name,
          brand: 'joyent',
          zonepath: `/zones/${name}`,
          uuid: '',
          state: 'installed',
        })),
      );
      const ids = names.map((name) => node.emulation.zoneStatus(name, STATUS.initialized, 0));
      assert.deepStrictEqual(zoneIds(node.root), [0, ...ids]);
      assert.deepStrictEqual(
        ids.map((id) => node.platform.zoneName(id)),
        names,
      );
    });

    it('are only the global zone after a boot of the node', () => {
      node.addZone('alpha');
      node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
      node.emulation.nodeBoot();
      assert.deepStrictEqual(zoneIds(node.root), [0]);
      assert.strictEqual(node.platform.zoneName(0), 'global');
      assert.strictEqual(zoneStatus(node.root, 0), 'running');
    });

    it('must be initialized first, and only once', () => {
      node.addZone('alpha');
      const { emulation } = node;
      assert.throws(() => emulation.zoneStatus('alpha', STATUS.running, 0), { code: 'ESRCH' });
      assert.throws(() => emulation.zoneStatus('beta', STATUS.initialized, 0), { code: 'ENOENT' });
      emulation.zoneStatus('alpha', STATUS.initialized, 0);
      assert.throws(() => emulation.zoneStatus('alpha', STATUS.initialized, 0), {
        code: 'EEXIST',
      });
    });
  });

  it('names the call, its subject and the code when it is refused', () => {
    const { platform, root } = node;
    assert.throws(() => zoneState(root, 'nobody'), {
      name: 'SystemError',
      call: 'zone_get_state',
      subject: 'nobody',
      code: 'Z_NO_ZONE',
      message: 'zone_get_state(nobody): Z_NO_ZONE',
    });
    assert.throws(() => platform.zoneName(9999), { message: 'getzonenamebyid(9999): EINVAL' });
    assert.throws(() => platform.peer(999_999), { call: 'getpeerucred', code: 'EBADF' });
  });

  it('keeps two nodes of one process apart', () => {
    const other = makeNode();
    try {
      node.addZone('alpha');
      other.addZone('beta');
      assert.strictEqual(zoneState(node.root, 'alpha'), 'installed');
      assert.strictEqual(zoneState(other.root, 'beta'), 'installed');
      assert.throws(() => zoneState(node.root, 'beta'), { code: 'Z_NO_ZONE' });
      assert.strictEqual(openPlatform(`${other.root}/`).zoneFacts('beta')?.state, 'installed');
    } finally {
      other.remove();
    }
  });

  describe('the peer of a socket', () => {
    it('has the global zone, pid and uid of an ordinary process', async () => {
      const { zoneid, pid, uid, child } = await peerOf(node, null);
      assert.deepStrictEqual(
        { zoneid, pid, uid },
        { zoneid: 0, pid: child, uid: process.getuid?.() },
      );
    });

    it('has the zone whose root is its root', async function () {
      needsRoot(this);
      node.addZone('alpha');
      node.addZone('beta');
      node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
      const id = node.emulation.zoneStatus('beta', STATUS.initialized, 0);
      const { zoneid, pid, child } = await peerOf(node, '/zones/beta/root');
      assert.deepStrictEqual({ zoneid, pid }, { zoneid: id, pid: child });
    });

    it('has the global zone when its root is that of a zone which the kernel does not know', async function () {
      needsRoot(this);
      node.addZone('alpha');
      // Configured, but the kernel does not know it: a chroot like any other.
      assert.strictEqual((await peerOf(node, '/zones/alpha/root')).zoneid, 0);
    });

    it('has the zone that its root lies in, however deep', async function () {
      needsRoot(this);
      node.addZone('alpha');
      const id = node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
      mkdirSync(node.paths.host('/zones/alpha/root/jail'));
      assert.strictEqual((await peerOf(node, '/zones/alpha/root/jail')).zoneid, id);
    });

    it('has its zone where the root of the node is named by a symbolic link', async function () {
      needsRoot(this);
      node.addZone('alpha');
      const id = node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
      const link = `${node.root}-link`;
      symlinkSync(node.root, link);
      try {
        const { zoneid } = await peerOf(node, '/zones/alpha/root', false, openPlatform(link));
        assert.strictEqual(zoneid, id);
      } finally {
        rmSync(link);
      }
    });

    it('has the zone that it stands in when it listens, as hypervisors do, but not when it connects', async () => {
      node.addZone('alpha');
      const id = node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
      const cwd = node.paths.host('/zones/alpha/root');
      const { stdin, stdout } = spawn('python3', ['-c', STANDING], { stdio: 'pipe', cwd });
      try {
        await once(stdout, 'data');
        const connected = connect(join(cwd, 'port'));
        await once(connected, 'data');
        assert.strictEqual(node.platform.peer(descriptorOf(connected)).zoneid, id);
        connected.destroy();

        const server = createServer().listen(join(cwd, 'listener'));
        stdin.write('listener\n');
        const [accepted] = (await once(server, 'connection')) as [Socket];
        assert.strictEqual(node.platform.peer(descriptorOf(accepted)).zoneid, 0);
        accepted.destroy();
        server.close();
      } finally {
        stdin.end();
      }
    });

    it('has no zone once it has exited', async () => {
      assert.strictEqual((await peerOf(node, null, true)).zoneid, -1);
    });
  });
});

/** Connects, moves into a new root when told to, and says so. */
const CLIENT = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
if len(sys.argv) > 2:
    os.chroot(sys.argv[2])
s.send(b'x')
sys.stdin.read()
`;

/** Listens in the directory where it stands, greets who connects, and connects to the socket that it is told. */
const STANDING = `
import socket, sys
port = socket.socket(socket.AF_UNIX)
port.bind('port')
port.listen()
print('listening', flush=True)
one, _ = port.accept()
one.send(b'x')
client = socket.socket(socket.AF_UNIX)
client.connect(sys.stdin.readline().strip())
sys.stdin.read()
`;

async function peerOf(
  node: EmulatedNode,
  zoneroot: string | null,
  gone = false,
  platform = node.platform,
) {
  const path = join(node.root, 'peer.sock');
  const server = createServer({ allowHalfOpen: true }).listen(path);
  await once(server, 'listening');
  const rootArgs = zoneroot === null ? [] : [node.paths.host(zoneroot)];
  const child = spawn('python3', ['-c', CLIENT, path, ...rootArgs], {
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  try {
    const [socket] = (await once(server, 'connection')) as [Socket];
    await once(socket, 'data');
    if (gone) {
      socket.pause();
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    const credential = platform.peer(descriptorOf(socket));
    socket.destroy();
    return { ...credential, child: child.pid };
  } finally {
    server.close();
    child.stdin.end();
    if (child.exitCode === null && child.signalCode === null) {
      await once(child, 'exit');
    }
  }
}

function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown =
    typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : null;
  assert(typeof fd === 'number');
  return fd;
}
