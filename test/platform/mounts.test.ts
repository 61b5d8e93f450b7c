import assert from 'node:assert';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { constants } from 'node:os';
import { join } from 'node:path';
import { errno, Library } from 'ffi-napi';
import { EMULATION_PATH } from '../../src/platform/ffi';
import { MountTable, parseMnttab } from '../../src/platform/mounts';
import { ZoneRoots, type ZoneRoot } from '../../src/platform/zone-root';
import { makeNode, type EmulatedNode } from '../support/emulated-node';
import { mountLofs } from '../../tools/simcn/emulation';
import { needsRoot } from '../support/pending';

describe('the mount table', () => {
  it('is parsed line by line', () => {
    assert.deepStrictEqual(
      parseMnttab(
        'rpool/zones/a\t/zones/a\tzfs\trw,devices,setuid\t1523467148\n' +
          '/var/zonecontrol/a\t/zones/a/root/.zonecontrol\tlofs\tro,nodevices,zone=a,dev=4010002\t1523467149\n',
      ),
      [
        {
          special: 'rpool/zones/a',
          mountPoint: '/zones/a',
          fstype: 'zfs',
          options: ['rw', 'devices', 'setuid'],
          time: 1523467148,
        },
        {
          special: '/var/zonecontrol/a',
          mountPoint: '/zones/a/root/.zonecontrol',
          fstype: 'lofs',
          options: ['ro', 'nodevices', 'zone=a', 'dev=4010002'],
          time: 1523467149,
        },
      ],
    );
  });

  it('keeps blanks and backslashes as they are', () => {
    const [entry] = parseMnttab('/a b\\040c\t/d e/\u00e9\tlofs\tro\t1');
    assert.strictEqual(entry?.special, '/a b\\040c');
    assert.strictEqual(entry.mountPoint, '/d e/\u00e9');
  });

  it('ignores malformed lines', () => {
    assert.deepStrictEqual(parseMnttab('\n\tx\na\tb\tc\td\n#\n'), []);
  });
});

describe('the mount of a socket directory', () => {
  let node: EmulatedNode;
  let table: MountTable;
  let roots: ZoneRoots;
  let root: ZoneRoot;
  let directory: string;
  let zoneroot: string;
  let mountPoint: string;

  beforeEach(() => {
    node = makeNode();
    node.addZone('alpha');
    table = new MountTable(node.paths.mnttab);
    roots = new ZoneRoots(node.root);
    root = roots.of(node.paths.host('/zones/alpha'));
    directory = node.paths.zoneDirectory('alpha');
    zoneroot = node.paths.host('/zones/alpha/root');
    mountPoint = join(zoneroot, '.zonecontrol');
    mkdirSync(directory, { recursive: true });
  });

  afterEach(() => {
    roots.stop();
    node.remove();
  });

  it('is refused where a component below the zone root is a symbolic link', async () => {
    const elsewhere = join(node.root, 'elsewhere');
    mkdirSync(join(elsewhere, '.zonecontrol'), { recursive: true });
    symlinkSync(elsewhere, join(zoneroot, 'native'));
    await assert.rejects(root.mount(directory, '/native/.zonecontrol'), {
      code: 'ELOOP',
      subject: join(zoneroot, 'native'),
    });
    symlinkSync(elsewhere, mountPoint);
    await assert.rejects(root.mount(directory, '/.zonecontrol'), { code: 'ELOOP' });
    assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
  });

  it('is refused where a component is a file, is missing above the zone root, or leads up', async () => {
    writeFileSync(mountPoint, '');
    await assert.rejects(root.mount(directory, '/.zonecontrol'), { code: 'ENOTDIR' });
    await assert.rejects(roots.of(`${zoneroot}/no`).mount(directory, '/.zonecontrol'), {
      code: 'ENOENT',
    });
    await assert.rejects(root.mount(directory, '/../.zonecontrol'), { code: 'EINVAL' });
  });

  it('is refused to an ordinary user', function () {
    needsRoot(this);
    // Everything is his, so that nothing but the privilege is missing.
    chmodSync(node.root, 0o755);
    execFileSync('chown', ['-R', '65534:65534', node.root]);
    const script = `
      process.setgid(65534); process.setuid(65534);
      const { ZoneRoots } = require(${JSON.stringify(require.resolve('../../src/platform/zone-root'))});
      const roots = new ZoneRoots(${JSON.stringify(node.root)});
      const alive = setInterval(() => undefined, 1000);
      roots.of(${JSON.stringify(node.paths.host('/zones/alpha'))})
        .mount(${JSON.stringify(directory)}, '/.zonecontrol')
        .then(() => console.log('mounted'), (err) => console.log(err.message))
        .then(() => roots.stop())
        .then(() => clearInterval(alive));`;
    // An ordinary user could not write down what coverage is counted, and would say so.
    const env = { ...process.env, NODE_V8_COVERAGE: '' };
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      env,
    });
    assert.strictEqual(stderr, '');
    assert.strictEqual(stdout.trim(), `mount(${mountPoint}): EPERM`);
    assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
  });

  describe('made by root', () => {
    before(function () {
      needsRoot(this);
    });

    it('makes the mount point, shows the directory, and is in the table with its zone', async () => {
      writeFileSync(join(directory, 'file'), 'x');
      const before = Math.floor(Date.now() / 1000);
      assert.strictEqual(table.isMounted(mountPoint), false);
      await root.mount(directory, '/.zonecontrol');
      assert.strictEqual(table.isMounted(mountPoint), true);
      assert.deepStrictEqual(readdirSync(mountPoint), ['file']);
      const [entry, ...more] = parseMnttab(readFileSync(node.paths.mnttab, 'utf8'));
      assert.deepStrictEqual(more, []);
      assert.strictEqual(entry?.special, directory);
      assert.strictEqual(entry.mountPoint, mountPoint);
      assert.strictEqual(entry.fstype, 'lofs');
      assert.deepStrictEqual(entry.options.slice(0, 5), [
        'ro',
        'nodevices',
        'nosetuid',
        'noexec',
        'zone=alpha',
      ]);
      assert.match(entry.options[5] ?? '', /^dev=[0-9a-f]+$/);
      assert.ok(entry.time >= before && entry.time <= before + 60);
    });

    it('is read-only, without devices, setuid and programs, while the directory itself is not', async () => {
      await root.mount(directory, '/.zonecontrol');
      assert.throws(() => writeFileSync(join(mountPoint, 'new'), ''), { code: 'EROFS' });
      assert.throws(() => chmodSync(mountPoint, 0o777), { code: 'EROFS' });
      const options = mountOptionsOf(mountPoint);
      for (const option of ['ro', 'nosuid', 'nodev', 'noexec']) {
        assert.ok(options.includes(option), `${option} is in force`);
      }
      // A socket that comes later is seen, and can be connected to.
      const server = createServer().listen(join(directory, 's'));
      await once(server, 'listening');
      assert.ok(statSync(join(mountPoint, 's')).isSocket());
      server.close();
    });

    it('refuses a second mount over it', async () => {
      await root.mount(directory, '/.zonecontrol');
      await assert.rejects(root.mount(directory, '/.zonecontrol'), { code: 'EBUSY' });
      assert.strictEqual(parseMnttab(readFileSync(node.paths.mnttab, 'utf8')).length, 1);
      assert.throws(() => mountLofs(node.root, directory, mountPoint, 'ro'), {
        call: 'mount',
        subject: mountPoint,
        code: 'EBUSY',
      });
    });

    it('is not mounted over a directory that the process itself is in', async () => {
      mkdirSync(mountPoint);
      const cwd = process.cwd();
      process.chdir(mountPoint);
      try {
        assert.throws(() => mountLofs(node.root, directory, mountPoint, 'ro'), { code: 'EBUSY' });
      } finally {
        process.chdir(cwd);
      }
      await root.mount(directory, '/.zonecontrol');
      assert.strictEqual(table.isMounted(mountPoint), true);
    });

    it('is not unmounted while somebody is in it', async () => {
      await root.mount(directory, '/.zonecontrol');
      const cwd = process.cwd();
      process.chdir(mountPoint);
      try {
        await assert.rejects(root.unmount(mountPoint), {
          subject: mountPoint,
          message: `umount2(${mountPoint}): EBUSY: somebody has a file of it open`,
        });
        assert.strictEqual(table.isMounted(mountPoint), true);
      } finally {
        process.chdir(cwd);
      }
      await root.unmount(table.mountOf(directory)?.mountPoint ?? '');
      assert.strictEqual(table.isMounted(mountPoint), false);
      assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
      assert.deepStrictEqual(mountOptionsOf(mountPoint), []);
      await assert.rejects(root.unmount(mountPoint), { call: 'umount2', code: 'EINVAL' });
    });

    it('is never unmounted by force, whoever asks for it', async () => {
      await root.mount(directory, '/.zonecontrol');
      const MS_FORCE = 0x400;
      const library = Library(EMULATION_PATH, { umount2: ['int', ['string', 'int']] });
      assert.strictEqual(library.umount2(mountPoint, MS_FORCE), -1);
      assert.strictEqual(errno(), constants.errno.ENOTSUP);
      assert.strictEqual(table.isMounted(mountPoint), true);
    });

    it('is in the table with the path that links lead to, as the platform resolves it', async () => {
      symlinkSync('zones', node.paths.host('/link'));
      mkdirSync(mountPoint);
      const named = node.paths.host('/link/alpha/root/.zonecontrol');
      mountLofs(node.root, directory, named, 'ro');
      assert.strictEqual(table.mountOf(directory)?.mountPoint, mountPoint);
      await root.unmount(named);
      assert.strictEqual(table.mountOf(directory), undefined);
    });

    it('works at paths with blanks', async () => {
      const odd = join(node.root, 'a b\\d');
      mkdirSync(join(odd, 'root'), { recursive: true });
      const there = join(odd, 'root', '.zonecontrol');
      await roots.of(odd).mount(directory, '/.zonecontrol');
      assert.strictEqual(table.isMounted(there), true);
      assert.strictEqual(node.emulation.unmountAll(), 1);
      assert.strictEqual(table.isMounted(there), false);
      rmSync(odd, { recursive: true });
    });

    it('is unmounted when the simulated node is taken down, and no other mount is', async () => {
      for (const name of ['beta', 'gamma']) {
        node.addZone(name);
        mkdirSync(node.paths.zoneDirectory(name), { recursive: true });
        const zone = roots.of(node.paths.host(`/zones/${name}`));
        await zone.mount(node.paths.zoneDirectory(name), '/.zonecontrol');
      }
      const other = makeNode();
      try {
        other.addZone('beta');
        const target = other.paths.host('/zones/beta/root/.zonecontrol');
        const otherRoots = new ZoneRoots(other.root);
        await otherRoots.of(other.paths.host('/zones/beta')).mount(directory, '/.zonecontrol');
        otherRoots.stop();
        assert.strictEqual(node.emulation.unmountAll(), 2);
        assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
        assert.notDeepStrictEqual(mountOptionsOf(target), []);
      } finally {
        other.remove();
      }
    });
  });
});

/** What Linux says is in force there; nothing when nothing is mounted. */
function mountOptionsOf(dir: string): string[] {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((text) => text.split(' '))
    .find((fields) => fields[4] === dir);
  return line?.[5]?.split(',') ?? [];
}
