import assert from 'node:assert';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MountTable } from '../../src/platform/mounts';
import { ZoneRoots, type ZoneRoot } from '../../src/platform/zone-root';
import { brandMounts, SocketMount, type SocketMountOptions } from '../../src/zones/socket-mount';
import { mountPointOf } from '../../src/platform/paths';
import { makeNode, STATUS, type EmulatedNode } from '../support/emulated-node';
import { mountLofs } from '../../tools/simcn/emulation';
import { eventually } from '../support/eventually';
import { logRecords, type LogRecords } from '../support/log-records';
import { describeWhere, whyNotRoot } from '../support/pending';

const MOUNT_LINE = '<global_mount special="/var/zonecontrol/%z" directory="/.zonecontrol"/>';

/** @param mounts whether the brand mounts the directory */
function writeBrand({ paths }: EmulatedNode, brand: string, mounts: boolean): void {
  const directory = paths.host(`/usr/lib/brand/${brand}`);
  mkdirSync(directory, { recursive: true });
  const xml = `<platform>${mounts ? MOUNT_LINE : ''}</platform>`;
  writeFileSync(join(directory, 'platform.xml'), xml);
}

describe('the files of a brand', () => {
  let node: EmulatedNode;

  beforeEach(() => {
    node = makeNode();
  });

  afterEach(() => {
    node.remove();
  });

  it('tell whether the brand mounts the directory, and nothing where it has no files', () => {
    writeBrand(node, 'joyent', true);
    writeBrand(node, 'old', false);
    assert.strictEqual(brandMounts(node.paths, 'joyent'), true);
    assert.strictEqual(brandMounts(node.paths, 'old'), false);
    assert.strictEqual(brandMounts(node.paths, 'unknown'), undefined);
  });

  it('cause an error where they cannot be read', () => {
    mkdirSync(node.paths.host('/usr/lib/brand/joyent/platform.xml'), { recursive: true });
    assert.throws(() => brandMounts(node.paths, 'joyent'), { code: 'EISDIR' });
  });

  it('do not decide where the mount point is', () => {
    assert.strictEqual(mountPointOf('joyent'), '/.zonecontrol');
    assert.strictEqual(mountPointOf('lx'), '/native/.zonecontrol');
  });
});

describeWhere(whyNotRoot(), 'the mount of a zone\u2019s socket directory', () => {
  let node: EmulatedNode;
  let roots: ZoneRoots;
  let root: ZoneRoot;
  let logged: LogRecords;
  let mountPoint: string;

  beforeEach(() => {
    node = makeNode();
    logged = logRecords();
    node.addZone('alpha');
    mkdirSync(node.paths.zoneDirectory('alpha'), { recursive: true });
    roots = new ZoneRoots(node.root);
    root = roots.of(node.paths.host('/zones/alpha'));
    mountPoint = root.nameOf('/.zonecontrol');
    node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
    node.emulation.zoneStatus('alpha', STATUS.ready, 0);
  });

  afterEach(() => {
    roots.stop();
    node.remove();
  });

  /** @param mountedByBrand what the brand's files say */
  function make(mountedByBrand: boolean, platform: SocketMountOptions['platform'] = node.platform) {
    writeBrand(node, 'joyent', mountedByBrand);
    const facts = node.platform.zoneFacts('alpha');
    assert(facts !== undefined);
    return new SocketMount(facts, root, logged.zoneLog('alpha'), {
      paths: node.paths,
      platform,
      table: new MountTable(node.paths.mnttab),
    });
  }

  /** As a brand does it while the zone becomes ready. */
  function mountAsBrand(): void {
    mkdirSync(mountPoint, { recursive: true });
    const options = 'ro,nodevices,nosetuid,noexec';
    mountLofs(node.root, node.paths.zoneDirectory('alpha'), mountPoint, options);
  }

  function isMounted(): boolean {
    return readFileSync(node.paths.mnttab, 'utf8').includes(`\t${mountPoint}\t`);
  }

  it('is checked but never changed where the brand makes it', () => {
    const mount = make(true);
    mount.moved('ready');
    assert.deepStrictEqual([mount.state, isMounted()], ['left to the brand', false]);
    mountAsBrand();
    mount.moved('running');
    assert.strictEqual(mount.state, 'mounted by the brand');
    mount.moved('halted');
    assert.deepStrictEqual([mount.state, isMounted()], ['zone halted', true]);
  });

  it('is made by the agent when the zone is ready, where the brand does not make it', async () => {
    const mount = make(false);
    mount.moved('ready');
    await eventually(() => mount.state === 'mounted by the agent');
    assert(isMounted());
    mount.moved('ready');
    await eventually(() => mount.state === 'mounted by the agent');
    mount.moved('running');
    assert.strictEqual(mount.state, 'mounted by the agent');
    assert.strictEqual(logged.records('mounted the metadata directory').length, 1);
    mount.moved('halted');
    assert.deepStrictEqual([mount.state, isMounted()], ['zone halted', true]);
  });

  it('counts as the agent\u2019s when an earlier agent made it', async () => {
    const before = make(false);
    before.moved('ready');
    await eventually(() => before.state === 'mounted by the agent');
    const mount = make(false);
    mount.moved('running');
    assert.strictEqual(mount.state, 'mounted by the agent');
  });

  it('unmounts nothing of another zone when a guest replaces its mount point by a link', async () => {
    node.addZone('victim');
    mkdirSync(node.paths.zoneDirectory('victim'), { recursive: true });
    const victim = node.paths.host('/zones/victim/root/.zonecontrol');
    mkdirSync(victim, { recursive: true });
    const native = node.paths.host('/zones/alpha/root/native');
    mkdirSync(join(native, '.zonecontrol'), { recursive: true });
    node.emulation.zoneStatus('alpha', STATUS.ready, 0);
    const facts = node.platform.zoneFacts('alpha');
    assert(facts !== undefined);
    writeBrand(node, 'lx', false);
    const mount = new SocketMount({ ...facts, brand: 'lx' }, root, logged.zoneLog('alpha'), {
      paths: node.paths,
      platform: node.platform,
      table: new MountTable(node.paths.mnttab),
    });
    mount.moved('ready');
    await eventually(() => mount.state === 'mounted by the agent');
    mount.moved('running');
    mountLofs(node.root, node.paths.zoneDirectory('victim'), victim, 'ro');
    // What a guest's root can do to the directory above its mount.
    renameSync(native, `${native}.aside`);
    symlinkSync(node.paths.host('/zones/victim/root'), native);
    mount.moved('halted');
    mount.moved('ready');
    await eventually(() => logged.records('could not mount the metadata directory').length === 0);
    mount.moved('halted');
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    assert(mounts.includes(` ${victim} `), 'the other zone has its mount');
  });

  it('is not made in a zone that runs already, whatever an event said', () => {
    const mount = make(false);
    node.emulation.zoneStatus('alpha', STATUS.running, 0);
    mount.moved('ready');
    assert.deepStrictEqual([mount.state, isMounted()], ['not mounted', false]);
    assert(!existsSync(mountPoint));
    mount.moved('halted');
  });

  it('is made once the kernel has set the state that it published', async () => {
    const mount = make(false);
    node.emulation.zoneStatus('alpha', STATUS.free, 0);
    node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
    mount.moved('ready');
    assert.deepStrictEqual([mount.state, isMounted()], ['not mounted', false]);
    node.emulation.zoneStatus('alpha', STATUS.ready, 0);
    await eventually(() => mount.state === 'mounted by the agent');
    assert(isMounted());
  });

  it('is logged once as missing in a running zone, after a second check', async () => {
    const mount = make(true);
    node.emulation.zoneStatus('alpha', STATUS.running, 0);
    const warned = 'zone runs without its metadata directory: reboot it';
    mount.moved('running');
    assert.strictEqual(mount.state, 'checking again');
    assert.deepStrictEqual(logged.records(warned), []);
    await eventually(() => mount.state === 'not mounted', 'the second check', 5000);
    assert.strictEqual(logged.records(warned).length, 1);
    assert.strictEqual(isMounted(), false);
  });

  it('is logged once as lost in a running zone, and never in one that shuts down', async () => {
    const text = 'the metadata directory was unmounted, or replaced while the zone runs: reboot it';
    const warnings = (): number => logged.records(text).length;
    const running = async (): Promise<SocketMount> => {
      const mount = make(true);
      mountAsBrand();
      node.emulation.zoneStatus('alpha', STATUS.running, 0);
      mount.moved('running');
      await mount.check();
      assert.strictEqual(mount.lastCheck(), 'ours');
      return mount;
    };
    const goingDown = await running();
    node.emulation.unmount(mountPoint);
    await goingDown.check();
    assert.strictEqual(goingDown.lastCheck(), 'another');
    goingDown.moved('halted');
    const mount = await running();
    node.emulation.unmount(mountPoint);
    await mount.check();
    assert.strictEqual(warnings(), 0);
    await eventually(() => warnings() > 0, 'the record', 5000);
    await mount.check();
    await delay(1500);
    assert.strictEqual(warnings(), 1);
    assert.strictEqual(goingDown.lastCheck(), 'unknown');
  });

  it('is not logged as lost, nor taken for another one, by what was seen before the zone booted again', async () => {
    const mount = make(true);
    const boot = (): void => {
      mountAsBrand();
      node.emulation.zoneStatus('alpha', STATUS.running, 0);
      mount.moved('running');
    };
    boot();
    node.emulation.unmount(mountPoint);
    await mount.check();
    assert.strictEqual(mount.lastCheck(), 'another');
    const late = mount.check();
    mount.moved('halted');
    boot();
    await late;
    assert.strictEqual(mount.lastCheck(), 'unknown');
    // It goes down again, which its event tells later.
    node.emulation.unmount(mountPoint);
    await delay(1500);
    const text = 'the metadata directory was unmounted, or replaced while the zone runs: reboot it';
    assert.deepStrictEqual(logged.records(text), []);
    mount.moved('halted');
  });

  it('counts as another one when its directory is made anew, also for an agent that starts later', async () => {
    mountAsBrand();
    node.emulation.zoneStatus('alpha', STATUS.running, 0);
    const mount = make(true);
    mount.moved('running');
    await mount.check();
    assert.strictEqual(mount.lastCheck(), 'ours');
    const directory = node.paths.zoneDirectory('alpha');
    renameSync(directory, `${directory}.old`);
    mkdirSync(directory);
    assert.strictEqual(mount.lastCheck(), 'another');
    const later = make(true);
    later.moved('running');
    await later.check();
    assert.strictEqual(later.lastCheck(), 'another');
    later.moved('halted');
    mount.moved('halted');
  });

  it('is not expected for a brand that does not know the directory', () => {
    node.addZone('beta', 'unknown');
    const facts = node.platform.zoneFacts('beta');
    assert(facts !== undefined);
    const beta = roots.of(node.paths.host('/zones/beta'));
    const mount = new SocketMount(facts, beta, logged.zoneLog('beta'), {
      paths: node.paths,
      platform: node.platform,
      table: new MountTable(node.paths.mnttab),
    });
    mount.moved('ready');
    mount.moved('running');
    assert.strictEqual(mount.state, 'none for this brand');
    assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
  });

  it('is retried while a link is in its place, which is logged once', async () => {
    symlinkSync('/etc', mountPoint);
    node.emulation.zoneStatus('alpha', STATUS.ready, 0);
    let asked = 0;
    const mount = make(false, {
      zoneFacts: (zonename) => {
        asked++;
        return node.platform.zoneFacts(zonename);
      },
    });
    mount.moved('ready');
    await eventually(() => asked >= 3, 'a third try', 5000);
    await eventually(() => mount.state === 'not mounted');
    assert.strictEqual(logged.records('could not mount the metadata directory').length, 1);
    rmSync(mountPoint);
    await eventually(() => mount.state === 'mounted by the agent', 'mounted', 5000);
    assert(isMounted());
  });
});
