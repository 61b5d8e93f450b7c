/*
 * The real daemon, from the real package, installed on a simulated node by the real scripts; only SMF
 * itself is simulated.
 */
import assert from 'node:assert';
import { lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../support/eventually';
import { MDATAD, NodeRoot, PLATFORM_AGENT } from '../support/node-root';
import { needs } from '../support/pending';
import { runProgram, SimNode, whyNoNode, type Result } from '../support/simcn';
import { BUILT, makePackage, otherRelease } from '../support/smf-package';

const ZONE = '0f5c1c1e-6d3b-4b41-9d0d-2a7f6f0c8a55';
const VM = { uuid: ZONE, zonename: ZONE, brand: 'joyent', zonepath: `/zones/${ZONE}` };

describe('mdatad as a service of a node', function () {
  this.timeout(120_000);

  let directory = '';
  let unpacked = '';
  let sim: SimNode;
  let node: NodeRoot;

  before(async function () {
    needs(this, whyNoNode());
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    unpacked = makePackage(directory, 'real').unpacked;
    sim = await SimNode.start({ vms: [{ ...VM, zone_state: 'running', state: 'running' }] });
    node = new NodeRoot({ root: sim.root });
  });

  after(async () => {
    node.remove();
    await sim.stop();
    rmSync(directory, { recursive: true });
  });

  function script(release: string, name: string): void {
    // The node below the root is simulated, and SMF is a fake: what preflight proves has tests of its own.
    const flags = name === 'install' ? ['--override', 'preflight'] : [];
    const file = join(release, 'smf', name);
    const { status, stdout, stderr } = node.run(file, ['--root', sim.root, ...flags]);
    assert.strictEqual(status, 0, stdout + stderr);
  }

  function release(from: string): string {
    return /^id=(.*)$/m.exec(readFileSync(join(from, 'RELEASE'), 'utf8'))?.[1] ?? '';
  }

  function socket(): string {
    return sim.path(`/var/zonecontrol/${ZONE}/metadata.sock`);
  }

  function ask(): Promise<Result> {
    const get = join(BUILT, 'tools/mdata/get.js');
    return runProgram([process.execPath, get, '--socket', socket(), '--timeout', '5', 'sdc:uuid']);
  }

  it('serves the zones as soon as the install script has ended', async () => {
    script(unpacked, 'install');
    assert.strictEqual(node.state(PLATFORM_AGENT), 'disabled');
    const { status, stdout, stderr } = await ask();
    assert.deepStrictEqual([status, stdout], [0, `${ZONE}\n`], stderr);
  });

  it('has read the settings of the service', () => {
    const text = readFileSync(node.at('var/run/mdatad/config.json'), 'utf8');
    assert.match(text, /"log_level":"info"/);
    assert.match(node.daemonLog(), /"msg":"ready"/);
  });

  it('is known by its path within the 80 bytes of arguments that illumos keeps, and leaves a core on a fault', () => {
    const pid = node.daemonPid();
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    assert.strictEqual(
      args[1],
      node.at(`opt/mdatad/versions/${release(unpacked)}/dist/src/bundle/mdatad.js`),
    );
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
    assert.match(environment, /NODE_OPTIONS=--abort-on-uncaught-exception/);
  });

  it('applies new settings on refresh, without a restart', async () => {
    const pid = node.daemonPid();
    writeFileSync(node.at('opt/mdatad/etc/mdatad.json'), '{"limits":{"connections":7}}');
    const method = node.at('opt/mdatad/current/smf/method/mdatad');
    const { status } = node.run('/usr/bin/env', [`SMF_FMRI=${MDATAD}`, method, 'refresh']);
    assert.strictEqual(status, 0);
    await eventually(() => node.daemonLog().includes('configuration reloaded'));
    assert.strictEqual(node.daemonPid(), pid);
  });

  it('is never without a socket file while it is upgraded, and serves afterwards', async () => {
    const inode = lstatSync(socket()).ino;
    const second = otherRelease(unpacked, '9.0.0-second', 'as it is');
    const gone = join(directory, 'gone');
    // Checks as fast as a shell can, for as long as the upgrade takes.
    const watch = `while kill -0 $$ 2>/dev/null; do [ -S '${socket()}' ] || echo gone >>'${gone}'; done`;
    const upgrade = `(${watch}) & watcher=$!; '${second}/smf/upgrade' --root '${sim.root}'; s=$?; kill $watcher; exit $s`;
    const { status, stdout, stderr } = node.run('/bin/sh', ['-c', upgrade]);
    assert.strictEqual(status, 0, stdout + stderr);
    assert.throws(() => readFileSync(gone), { code: 'ENOENT' });
    assert.notStrictEqual(lstatSync(socket()).ino, inode);
    assert.strictEqual((await ask()).status, 0);
  });

  it('leaves the zones to the agent of the platform when it is uninstalled', () => {
    const pid = node.daemonPid();
    script(unpacked, 'uninstall');
    assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
    assert.match(node.daemonLog(), /Agent exiting/);
    assert.notStrictEqual(pid, 0);
  });
});
