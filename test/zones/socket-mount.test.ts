import assert from 'node:assert';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openMounts } from '../../src/platform/mounts';
import { brandMounts, SocketMount, type SocketMountOptions } from '../../src/zones/socket-mount';
import { mountPointOf } from '../../src/zones/mount-check';
import { makeNode, STATUS, type EmulatedNode } from '../support/emulated-node';
import { eventually } from '../support/eventually';
import { logRecords, type LogRecords } from '../support/log-records';
import { describeWhere, whyNotRoot } from '../support/pending';

const FOLDER_LINE = '<global_mount special="/var/zonecontrol/%z" directory="/.zonecontrol"/>';

describe('the files of a brand', () => {
  let node: EmulatedNode;

  beforeEach(() => {
    node = makeNode();
  });

  afterEach(() => {
    node.remove();
  });

  function brandFile(brand: string, xml: string): void {
    const folder = node.paths.host(`/usr/lib/brand/${brand}`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'platform.xml'), xml);
  }

  it('say whether it mounts the folder; a brand that has none says nothing', () => {
    brandFile('joyent', `<platform>${FOLDER_LINE}</platform>`);
    brandFile('old', '<platform></platform>');
    assert.strictEqual(brandMounts(node.paths, 'joyent'), true);
    assert.strictEqual(brandMounts(node.paths, 'old'), false);
    assert.strictEqual(brandMounts(node.paths, 'unheard-of'), undefined);
  });

  it('are no answer where they cannot be read', () => {
    mkdirSync(node.paths.host('/usr/lib/brand/joyent/platform.xml'), { recursive: true });
    assert.throws(() => brandMounts(node.paths, 'joyent'), { code: 'EISDIR' });
  });

  it('are not asked for the place, which is that of the zone’s own system', () => {
    assert.strictEqual(mountPointOf('joyent'), '/.zonecontrol');
    assert.strictEqual(mountPointOf('lx'), '/native/.zonecontrol');
  });
});

describeWhere(whyNotRoot(), 'the duty for a folder’s mount', () => {
  let node: EmulatedNode;
  let logged: LogRecords;
  let mountPoint: string;

  beforeEach(() => {
    node = makeNode();
    logged = logRecords();
    node.addZone('alpha');
    mkdirSync(node.paths.zoneFolder('alpha'), { recursive: true });
    mountPoint = node.paths.host('/zones/alpha/root/.zonecontrol');
    node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
    node.emulation.zoneStatus('alpha', STATUS.ready, 0);
  });

  afterEach(() => {
    node.remove();
  });

  /** @param mountedByBrand what the brand's files say */
  function make(mountedByBrand: boolean | undefined, more: Partial<SocketMountOptions> = {}) {
    const facts = node.platform.zoneFacts('alpha');
    assert(facts !== undefined);
    return new SocketMount(facts, logged.zoneLog('alpha'), {
      paths: node.paths,
      mounts: openMounts(node.platform, node.paths.mnttab),
      mountRunning: false,
      isReady: (zonename) => node.platform.zoneState(zonename) === 'ready',
      brandMounts: () => mountedByBrand,
      ...more,
    });
  }

  /** As a brand does it while the zone becomes ready. */
  function mountAsBrand(): void {
    const mounts = openMounts(node.platform, node.paths.mnttab);
    mounts.mount(
      node.paths.zoneFolder('alpha'),
      node.paths.host('/zones/alpha/root'),
      '/.zonecontrol',
    );
  }

  function isMounted(): boolean {
    return readFileSync(node.paths.mnttab, 'utf8').includes(`\t${mountPoint}\t`);
  }

  it('is to look only, where the brand mounts it: nothing is mounted, nothing unmounted', () => {
    const folder = make(true);
    assert.strictEqual(folder.onReady(), null);
    assert.deepStrictEqual([folder.state, isMounted()], ['left to the brand', false]);
    mountAsBrand();
    assert.strictEqual(folder.onRunning(), null);
    assert.strictEqual(folder.state, 'mounted by the brand');
    assert.strictEqual(folder.onHalted(), null);
    assert.deepStrictEqual([folder.state, isMounted()], ['zone halted', true]);
  });

  it('is to mount it when the zone is ready, where the brand does not, and to unmount it', () => {
    const folder = make(false);
    assert.strictEqual(folder.onReady(), null);
    assert.deepStrictEqual([folder.state, isMounted()], ['mounted by the agent', true]);
    assert.strictEqual(folder.onReady(), null);
    assert.strictEqual(folder.onRunning(), null);
    assert.strictEqual(folder.state, 'mounted by the agent');
    assert.strictEqual(logged.records('mounted the metadata folder').length, 1);
    assert.strictEqual(folder.onHalted(), null);
    assert.strictEqual(isMounted(), false);
  });

  it('includes what an agent before this one mounted', () => {
    make(false).onReady();
    const folder = make(false);
    folder.onRunning();
    assert.strictEqual(folder.state, 'mounted by the agent');
    folder.onHalted();
    assert.strictEqual(isMounted(), false);
  });

  it('is not to mount into a zone that runs by now, whatever was told of it', () => {
    const folder = make(false);
    node.emulation.zoneStatus('alpha', STATUS.running, 0);
    assert.notStrictEqual(folder.onReady(), null, 'it may become ready yet');
    assert.deepStrictEqual([folder.state, isMounted()], ['not mounted', false]);
    assert(!existsSync(mountPoint));
  });

  it('waits for the kernel to set the state that it published', () => {
    const folder = make(false);
    node.emulation.zoneStatus('alpha', STATUS.free, 0);
    node.emulation.zoneStatus('alpha', STATUS.initialized, 0);
    assert.notStrictEqual(folder.onReady(), null);
    assert.strictEqual(isMounted(), false);
    node.emulation.zoneStatus('alpha', STATUS.ready, 0);
    assert.strictEqual(folder.onReady(), null);
    assert.strictEqual(isMounted(), true);
  });

  it('is to warn once of a zone that runs without it, after a second look', () => {
    const folder = make(true);
    node.emulation.zoneStatus('alpha', STATUS.running, 0);
    const warned = 'zone runs without its metadata folder: reboot it, or set mount_running_zones';
    const againMs = folder.onRunning();
    assert(againMs !== null && againMs > 0);
    assert.deepStrictEqual(logged.records(warned), []);
    assert.strictEqual(folder.onRunning(), null);
    assert.strictEqual(logged.records(warned).length, 1);
    assert.deepStrictEqual([folder.state, isMounted()], ['not mounted', false]);
  });

  it('is to tell once that a running zone lost it, and not of a zone that goes down', async () => {
    const told = (): number =>
      logged.records(
        'the metadata folder was unmounted, or replaced while the zone runs: reboot it',
      ).length;
    const running = (): SocketMount => {
      const folder = make(true);
      mountAsBrand();
      node.emulation.zoneStatus('alpha', STATUS.running, 0);
      folder.onRunning();
      assert.strictEqual(folder.look(), 'ours');
      return folder;
    };
    const goingDown = running();
    execFileSync('umount', [mountPoint]);
    assert.strictEqual(goingDown.look(), 'another');
    goingDown.onHalted();
    writeFileSync(node.paths.mnttab, '');
    const folder = running();
    execFileSync('umount', [mountPoint]);
    assert.strictEqual(folder.look(), 'another');
    assert.strictEqual(told(), 0);
    await eventually(() => told() > 0, 'the record', 5000);
    assert.strictEqual(folder.look(), 'another');
    await delay(1500);
    assert.strictEqual(told(), 1);
    assert.strictEqual(goingDown.look(), 'unknown');
  });

  it('is to mount into a zone that runs without it only where the configuration says so', () => {
    const folder = make(true, { mountRunning: true });
    node.emulation.zoneStatus('alpha', STATUS.running, 0);
    assert.notStrictEqual(folder.onRunning(), null);
    assert.strictEqual(isMounted(), false);
    assert.strictEqual(folder.onRunning(), null);
    assert.deepStrictEqual([folder.state, isMounted()], ['mounted by the agent', true]);
    // The brand's files say that it is theirs; this one is not.
    folder.onHalted();
    assert.strictEqual(isMounted(), false);
  });

  it('is none for a brand that knows nothing of the folder', () => {
    node.addZone('beta', 'unheard-of');
    const facts = node.platform.zoneFacts('beta');
    assert(facts !== undefined);
    const folder = new SocketMount(facts, logged.zoneLog('beta'), {
      paths: node.paths,
      mounts: openMounts(node.platform, node.paths.mnttab),
      mountRunning: true,
      isReady: () => true,
      brandMounts: (brand) => brandMounts(node.paths, brand),
    });
    assert.strictEqual(folder.onReady(), null);
    assert.strictEqual(folder.onRunning(), null);
    assert.strictEqual(folder.state, 'none for this brand');
    assert.strictEqual(readFileSync(node.paths.mnttab, 'utf8'), '');
  });

  it('is tried again later each time while a link is in the way, which is told once', () => {
    symlinkSync('/etc', mountPoint);
    const folder = make(false);
    const again = [folder.onReady(), folder.onReady(), folder.onReady()];
    assert.deepStrictEqual(again, [100, 200, 400]);
    assert.strictEqual(folder.state, 'not mounted');
    const told = logged.records('could not mount the metadata folder');
    assert.strictEqual(told.length, 1);
    rmSync(mountPoint);
    assert.strictEqual(folder.onReady(), null);
    assert.deepStrictEqual([folder.state, isMounted()], ['mounted by the agent', true]);
  });
});
