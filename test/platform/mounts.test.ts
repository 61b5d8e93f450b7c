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
import { join } from 'node:path';
import { openMounts, parseMnttab, type FolderMounts } from '../../src/platform/mounts';
import { makeNode, type EmulatedNode } from '../support/emulated-node';
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

  it('has blanks and backslashes as they are, and nothing escaped', () => {
    const [entry] = parseMnttab('/a b\\040c\t/d e/\u00e9\tlofs\tro\t1');
    assert.strictEqual(entry?.special, '/a b\\040c');
    assert.strictEqual(entry.mountPoint, '/d e/\u00e9');
  });

  it('yields nothing for lines that are none', () => {
    assert.deepStrictEqual(parseMnttab('\n\tx\na\tb\tc\td\n#\n'), []);
  });
});

describe('the mount of a socket folder', () => {
  let node: EmulatedNode;
  let mounts: FolderMounts;
  let folder: string;
  let zoneroot: string;
  let mountPoint: string;

  beforeEach(() => {
    node = makeNode();
    node.addZone('alpha');
    mounts = openMounts(node.platform, node.paths.mnttab);
    folder = node.paths.zoneFolder('alpha');
    zoneroot = node.paths.host('/zones/alpha/root');
    mountPoint = join(zoneroot, '.zonecontrol');
    mkdirSync(folder, { recursive: true });
  });

  afterEach(() => {
    node.remove();
  });

  it('is refused where a component below the zone root is a symbolic link', () => {
    const elsewhere = join(node.root, 'elsewhere');
    mkdirSync(join(elsewhere, '.zonecontrol'), { recursive: true });
    symlinkSync(elsewhere, join(zoneroot, 'native'));
    assert.throws(() => mounts.mount(folder, zoneroot, '/native/.zonecontrol'), {
      code: 'ELOOP',
      subject: join(zoneroot, 'native'),
    });
    symlinkSync(elsewhere, mountPoint);
    assert.throws(() => mounts.mount(folder, zoneroot, '/.zonecontrol'), { code: 'ELOOP' });
    assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
  });

  it('is refused where a component is a file, is missing above the zone root, or leads up', () => {
    writeFileSync(mountPoint, '');
    assert.throws(() => mounts.mount(folder, zoneroot, '/.zonecontrol'), { code: 'ENOTDIR' });
    assert.throws(() => mounts.mount(folder, `${zoneroot}/no`, '/.zonecontrol'), {
      code: 'ENOENT',
    });
    assert.throws(() => mounts.mount(folder, zoneroot, '/../.zonecontrol'), { code: 'EINVAL' });
  });

  it('is refused to an ordinary user, and nothing is pretended', function () {
    needsRoot(this);
    // Everything is his, so that nothing but the privilege is missing.
    chmodSync(node.root, 0o755);
    execFileSync('chown', ['-R', '65534:65534', node.root]);
    const script = `
      process.setgid(65534); process.setuid(65534);
      const { openPlatform } = require(${JSON.stringify(require.resolve('../../src/platform/libzonecfg'))});
      const { openMounts } = require(${JSON.stringify(require.resolve('../../src/platform/mounts'))});
      const mounts = openMounts(openPlatform(${JSON.stringify(node.root)}), ${JSON.stringify(node.paths.mnttab)});
      try {
        mounts.mount(${JSON.stringify(folder)}, ${JSON.stringify(zoneroot)}, '/.zonecontrol');
        console.log('mounted');
      } catch (err) {
        console.log(err.message);
      }`;
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

  describe('for real (which needs root)', () => {
    before(function () {
      needsRoot(this);
    });

    it('makes the mount point, shows the folder, and stands in the table with its zone', () => {
      writeFileSync(join(folder, 'file'), 'x');
      const before = Math.floor(Date.now() / 1000);
      assert.strictEqual(mounts.isMounted(mountPoint), false);
      mounts.mount(folder, zoneroot, '/.zonecontrol');
      assert.strictEqual(mounts.isMounted(mountPoint), true);
      assert.deepStrictEqual(readdirSync(mountPoint), ['file']);
      const [entry, ...more] = parseMnttab(readFileSync(node.paths.mnttab, 'utf8'));
      assert.deepStrictEqual(more, []);
      assert.strictEqual(entry?.special, folder);
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

    it('is read-only, without devices, setuid and programs, while the folder itself is not', async () => {
      mounts.mount(folder, zoneroot, '/.zonecontrol');
      assert.throws(() => writeFileSync(join(mountPoint, 'new'), ''), { code: 'EROFS' });
      assert.throws(() => chmodSync(mountPoint, 0o777), { code: 'EROFS' });
      const options = mountOptionsOf(mountPoint);
      for (const option of ['ro', 'nosuid', 'nodev', 'noexec']) {
        assert.ok(options.includes(option), `${option} is in force`);
      }
      // A socket that comes later is seen, and can be connected to.
      const server = createServer().listen(join(folder, 's'));
      await once(server, 'listening');
      assert.ok(statSync(join(mountPoint, 's')).isSocket());
      server.close();
    });

    it('is done once, and refused to whoever mounts over it', () => {
      mounts.mount(folder, zoneroot, '/.zonecontrol');
      mounts.mount(folder, zoneroot, '/.zonecontrol');
      assert.strictEqual(parseMnttab(readFileSync(node.paths.mnttab, 'utf8')).length, 1);
      assert.throws(() => node.platform.mountLofs(folder, mountPoint, 'ro'), {
        call: 'mount',
        subject: mountPoint,
        code: 'EBUSY',
      });
    });

    it('ends with an unmount, even while somebody sits in it', () => {
      mounts.mount(folder, zoneroot, '/.zonecontrol');
      const cwd = process.cwd();
      process.chdir(mountPoint);
      try {
        assert.throws(() => node.platform.umount(mountPoint, false), { code: 'EBUSY' });
        mounts.unmount(mountPoint);
      } finally {
        process.chdir(cwd);
      }
      assert.strictEqual(mounts.isMounted(mountPoint), false);
      assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
      assert.deepStrictEqual(mountOptionsOf(mountPoint), []);
      assert.throws(() => mounts.unmount(mountPoint), { call: 'umount2', code: 'EINVAL' });
    });

    it('works at paths with blanks in them', () => {
      const odd = join(node.root, 'a b\\d');
      mkdirSync(join(odd, '.zonecontrol'), { recursive: true });
      mounts.mount(folder, odd, '/.zonecontrol');
      assert.strictEqual(mounts.isMounted(join(odd, '.zonecontrol')), true);
      assert.strictEqual(node.emulation.unmountAll(), 1);
      assert.strictEqual(mounts.isMounted(join(odd, '.zonecontrol')), false);
      rmSync(odd, { recursive: true });
    });

    it('goes with all others when the node is taken down, and no other mount does', () => {
      for (const name of ['beta', 'gamma']) {
        node.addZone(name);
        mkdirSync(node.paths.zoneFolder(name), { recursive: true });
        mounts.mount(
          node.paths.zoneFolder(name),
          node.paths.host(`/zones/${name}/root`),
          '/.zonecontrol',
        );
      }
      const other = makeNode();
      try {
        other.addZone('beta');
        const target = other.paths.host('/zones/beta/root/.zonecontrol');
        openMounts(other.platform, other.paths.mnttab).mount(
          folder,
          other.paths.host('/zones/beta/root'),
          '/.zonecontrol',
        );
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
