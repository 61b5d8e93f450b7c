/* Zones and guests made of images: a root of a directory or an archive, a disk that QEMU boots, its console. */
import assert from 'node:assert';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { makeBootDisk } from '../support/boot-disk';
import { eventually } from '../support/eventually';
import { AgentProcess } from '../support/guest-agent';
import { needs, pending } from '../support/pending';
import { SIMCN, SimNode, whyNoNode } from '../support/simcn';

const APPLETS = ['sh', 'cat', 'ls', 'uname', 'mkdir', 'mv', 'rm', 'chmod', 'sleep', 'basename'];
const BUSYBOX = '/bin/busybox';
/** Software emulation on a machine that others use as well. */
const GUEST_MS = 120_000;

describe('simcn: images', function () {
  this.timeout(2 * GUEST_MS);
  let node: SimNode;
  let agent: AgentProcess;
  let directory: string;

  before(async function () {
    needs(this, whyNoNode());
    needs(this, existsSync(BUSYBOX) ? null : 'busybox-static is not installed');
    directory = mkdtempSync(join(tmpdir(), 'img-'));
    node = await SimNode.start({ flags: ['--services'] });
    agent = await AgentProcess.start(node.root);
  });
  after(async () => {
    await (agent as AgentProcess | undefined)?.kill();
    await (node as SimNode | undefined)?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const create = async (vm: object, ...flags: string[]): Promise<string> =>
    (await node.ok(['create', ...flags], JSON.stringify(vm))).trim();
  const field = async (uuid: string, name: string): Promise<string> => {
    const line = (await node.ok(['ls', '-p', '-o', `uuid,${name}`])).split('\n');
    return line.find((text) => text.startsWith(uuid))?.split(':')[1] ?? '';
  };

  describe('a rootfs', () => {
    let image: string;

    before(async function () {
      const probe = await create({ brand: 'joyent' });
      if ((await node.exec(probe, 'true')).status !== 0) {
        pending(this, 'no zone can be entered, for want of namespaces');
      }
      image = join(directory, 'rootfs');
      for (const path of ['bin', 'etc', 'lib', 'usr/lib']) {
        mkdirSync(join(image, path), { recursive: true });
      }
      copyFileSync(BUSYBOX, join(image, 'bin', 'busybox'));
      APPLETS.forEach((name) => symlinkSync('busybox', join(image, 'bin', name)));
      writeFileSync(join(image, 'etc', 'image'), 'tiny\n');
      // Libraries of its own: the machine's are not those of its programs.
      writeFileSync(join(image, 'lib', 'own'), '');
      writeFileSync(join(image, 'usr', 'lib', 'own'), '');
      // A link that leads out of the zone.
      symlinkSync(join(directory, 'outside'), join(image, 'etc', 'hosts'));
    });

    it('of a directory has its own programs, and the zone’s tools beside them', async () => {
      const uuid = await create({ alias: 'tree', brand: 'joyent' }, '--rootfs', image);
      const script = 'cat /etc/image; ls /usr; mdata-get sdc:alias; uname -n; zonename';
      assert.deepStrictEqual(await node.exec(uuid, 'sh', '-c', script), {
        status: 0,
        stdout: `tiny\nlib\ntree\ntree\n${uuid}\n`,
        stderr: '',
      });
      assert(!existsSync(join(directory, 'outside')), 'a link of the image was written through');
    });

    it('of a compressed archive runs the scripts of its first boot', async () => {
      const archive = join(directory, 'rootfs.tar.gz');
      execFileSync('tar', ['-C', image, '-czf', archive, '.']);
      const user = '#!/bin/sh\nmdata-put booted "$(uname -n) $(cat /etc/image)"\n';
      const vm = { brand: 'joyent', hostname: 'img', customer_metadata: { 'user-script': user } };
      const uuid = await create(vm, '--rootfs', archive);
      const booted = async () => (await node.exec(uuid, 'mdata-get', 'booted')).stdout;
      await eventually(async () => (await booted()) === 'img tiny\n', 'the user-script', GUEST_MS);
    });

    it('has the machine’s programs where it brings an empty directory for them', async () => {
      const empty = join(directory, 'empty');
      ['bin', 'usr', 'lib'].forEach((name) => mkdirSync(join(empty, name), { recursive: true }));
      const uuid = await create({ alias: 'bare', brand: 'joyent' }, '--rootfs', empty);
      const { stdout, stderr } = await node.exec(uuid, 'sh', '-c', 'mdata-get sdc:alias');
      assert.deepStrictEqual([stdout, stderr], ['bare\n', '']);
    });

    it('comes back as the image has it at a reprovision', async () => {
      const uuid = await create({ brand: 'joyent', simcn: { rootfs: image } });
      await node.exec(uuid, 'sh', '-c', 'rm /etc/image');
      await node.ok(['reprovision', uuid]);
      assert.strictEqual((await node.exec(uuid, 'cat', '/etc/image')).stdout, 'tiny\n');
    });

    it('leaves nothing behind when it is missing or is not an image', async () => {
      const before = readdirSync(node.path('/zones'));
      const index = readFileSync(node.path('/etc/zones/index'), 'utf8');
      const missing = join(directory, 'none');
      for (const brand of ['joyent', 'kvm']) {
        const flags = ['create', '--rootfs', missing, '--disk', missing];
        const result = await node.simcn(flags, JSON.stringify({ brand }));
        assert.deepStrictEqual([result.status, result.stdout], [1, '']);
        assert.match(result.stderr, /^simcn: stat \S+none: no such file .*\n {2}.*ls -la \S+\n$/);
      }
      const aDirectory = await node.simcn(['create', '--disk', directory], '{"brand":"kvm"}');
      assert.match(
        aDirectory.stderr,
        /is a directory\n {2}name the file of a raw or qcow2 disk\n$/,
      );
      const noImage = join(directory, 'no-image');
      writeFileSync(noImage, 'text');
      const unpacked = await node.simcn(['create', '--rootfs', noImage], '{"brand":"joyent"}');
      assert.deepStrictEqual([unpacked.status, unpacked.stdout], [1, '']);
      assert.match(unpacked.stderr, /^simcn: cannot make the zone's root of \S+no-image: tar: /);
      assert.deepStrictEqual(readdirSync(node.path('/zones')), before);
      assert.strictEqual(readFileSync(node.path('/etc/zones/index'), 'utf8'), index);
    });
  });

  it('gives a zone a host name of its own, which stays as it was set', async function () {
    const uuid = await create({ alias: 'named', brand: 'joyent', hostname: 'web01' });
    const run = await node.exec(uuid, 'sh', '-c', 'uname -n; hostname; hostname web02');
    needs(this, run.status === 0 ? null : 'needs namespaces');
    assert.strictEqual(run.stdout, 'web01\nweb01\n');
    assert.strictEqual((await node.exec(uuid, 'uname', '-n')).stdout, 'web02\n');
    assert.notStrictEqual(spawnSync('uname', ['-n'], { encoding: 'utf8' }).stdout, 'web02\n');
  });

  it('shows a new zone as provisioning until its services have come to the scripts', async () => {
    await agent.kill();
    const uuid = await create({ brand: 'joyent' });
    assert.strictEqual(await field(uuid, 'state'), 'provisioning');
    assert.strictEqual(await field(uuid, 'zone_state'), 'running');
    agent = await AgentProcess.start(node.root);
    await eventually(async () => (await field(uuid, 'state')) === 'running', 'the end', GUEST_MS);
    await node.ok(['reboot', uuid]);
    assert.strictEqual(await field(uuid, 'state'), 'running');
  });

  for (const [format, brand] of [
    ['raw', 'kvm'],
    ['qcow2', 'bhyve'],
  ] as const) {
    it(`boots a ${format} disk as a ${brand} guest, whose console asks the agent`, async function () {
      const qemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;
      needs(this, qemu ? null : 'qemu is not installed');
      const disk = join(directory, `disk.${format}`);
      makeBootDisk(disk, format);
      const original = readFileSync(disk);
      const uuid = await create({ alias: format, brand, vcpus: 1 }, '--disk', disk);
      const running = readFileSync(node.path(`/zones/${uuid}/logs/qemu.pid`), 'utf8');
      await eventually(
        async () => (await node.ok(['logs', uuid])).includes('booted from the disk'),
        'the boot',
        GUEST_MS,
      );

      const guest = spawn(process.execPath, [SIMCN, 'console', '--root', node.root, format]);
      let printed = '';
      guest.stdout.on('data', (bytes: Buffer) => (printed += bytes.toString()));
      // Asked until the agent has the port: what nobody reads is lost.
      const asking = setInterval(() => guest.stdin.write('g'), 500);
      await eventually(() => printed.includes(`SUCCESS\n${format}\n.\n`), 'the answer', GUEST_MS);
      clearInterval(asking);

      await node.ok(['reboot', '--guest', uuid]);
      const rebooted = readFileSync(node.path(`/zones/${uuid}/logs/qemu.pid`), 'utf8');
      assert.strictEqual(rebooted === running, brand === 'kvm');
      if (brand === 'kvm') {
        const ended = once(guest, 'exit');
        const leaving = setInterval(() => guest.stdin.write('q'), 500);
        assert.deepStrictEqual(await ended, [0, null]);
        clearInterval(leaving);
        await eventually(async () => (await field(uuid, 'zone_state')) === 'installed', 'the halt');
      } else {
        guest.kill('SIGKILL');
        await node.ok(['shutdown', uuid]);
      }
      assert(readFileSync(disk).equals(original), 'the image itself was written to');
    });
  }

  it('refuses an image that is not for the brand, and a console that is not there', async () => {
    const refused = async (vm: object) => {
      const { status, stderr } = await node.simcn(['create'], JSON.stringify(vm));
      assert.strictEqual(status, 1);
      return stderr;
    };
    assert.match(
      await refused({ brand: 'joyent', simcn: { disk: '/d' } }),
      /\(disk\) needs a brand kvm or bhyve/,
    );
    assert.match(
      await refused({ brand: 'kvm', simcn: { rootfs: '/d' } }),
      /\(rootfs\) needs a brand of a zone/,
    );
    assert.match(await refused({ brand: 'kvm', simcn: { disc: '/d' } }), /simcn: needs "kernel"/);
    const uuid = await create({ brand: 'joyent' });
    const { status, stderr } = await node.simcn(['console', uuid]);
    assert.strictEqual(status, 1);
    assert.match(stderr, /has no console: only a real guest that runs has one/);
  });

  it('shows the busiest zones as mdatactl top does', async () => {
    const uuid = await create({ alias: 'busy', brand: 'joyent' });
    const top = await node.simcn(['top', '-n', '1', '--sort', 'errors']);
    assert.strictEqual(top.status, 0, top.stderr);
    assert.match(top.stdout, /by errors\nZONE .* REQ\/S/);
    assert(top.stdout.includes(uuid.slice(0, 8)));
  });
});
