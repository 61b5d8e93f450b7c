import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';

import { eventually } from '../support/eventually';
import { needs } from '../support/pending';
import { runProgram, SIMCN, SimNode, whyNoNode } from '../support/simcn';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const OTHER = '54f1cc77-68f1-42ab-acac-5c4f64f5d6e0';
const isRoot = process.geteuid?.() === 0;

function vm(uuid: string, more: object = {}): object {
  return { uuid, brand: 'joyent', alias: 'z', ...more };
}

interface Vm {
  readonly [name: string]: unknown;
  readonly zoneid: number | null;
}

/** The VM as vminfod has it; undefined where it answers 404. */
function vminfodVm(node: SimNode, uuid: string): Promise<Vm | undefined> {
  return new Promise((resolve, reject) => {
    const socketPath = node.path('/var/run/vminfod.sock');
    get({ socketPath, path: `/vms/${uuid}` }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () =>
        resolve(response.statusCode === 200 ? (JSON.parse(body) as Vm) : undefined),
      );
    }).on('error', reject);
  });
}

describe('simcn: zones', function () {
  this.timeout(60_000);
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: [vm(ZONE)] });
  });
  after(async () => {
    // Undefined where the suite was skipped.
    await (node as SimNode | undefined)?.stop();
  });

  const index = () => readFileSync(node.path('/etc/zones/index'), 'utf8');

  it('prints in one line that it is ready, and with how many zones', () => {
    assert.deepStrictEqual(node.ready, { ready: true, root: node.root, zones: 1 });
  });

  it('has directories that others than root may enter, whatever the umask of who starts it', async () => {
    const umask = process.umask(0o077);
    let strict: SimNode | undefined;
    try {
      strict = await SimNode.start({ vms: [vm(OTHER)] });
      const directories = ['/var', '/zones', `/zones/${OTHER}/root`, `/var/zonecontrol/${OTHER}`];
      const modes = directories.map(
        (directory) => statSync(strict?.path(directory) ?? '').mode & 0o777,
      );
      assert.deepStrictEqual(modes, [0o755, 0o755, 0o755, 0o755]);
    } finally {
      process.umask(umask);
      await strict?.stop();
    }
  });

  it('starts a VM in the state that its zone_state says', async () => {
    const states = ['configured', 'incomplete', 'installed', 'ready', 'running', 'down'];
    const uuids = states.map((_, i) => `00000000-0000-4000-8000-00000000000${i}`);
    await node.ok(
      ['create'],
      JSON.stringify(uuids.map((uuid, i) => vm(uuid, { zone_state: states[i] }))),
    );
    const shown = await Promise.all(uuids.map((uuid) => vminfodVm(node, uuid)));
    assert.deepStrictEqual(
      shown.map((each) => each?.zone_state),
      states,
    );
    assert.strictEqual(shown[2]?.state, 'stopped');
    assert.strictEqual(shown[2].zoneid, null);
    await Promise.all(uuids.map((uuid) => node.ok(['destroy', uuid])));
    assert.deepStrictEqual(
      await Promise.all(uuids.map((u) => vminfodVm(node, u))),
      states.map(() => undefined),
    );
  });

  it('gives a running zone an id, a pid, and a directory for its socket', async () => {
    const shown = await vminfodVm(node, ZONE);
    assert.strictEqual(shown?.zone_state, 'running');
    assert.ok(shown.zoneid !== null && shown.zoneid > 0);
    assert.strictEqual(shown.init_restarts, 0);
    assert.deepStrictEqual(shown.tags, {});
    assert.strictEqual(statSync(node.path(`/var/zonecontrol/${ZONE}`)).mode & 0o777, 0o755);
    assert.match(index(), new RegExp(`^${ZONE}:installed:/zones/${ZONE}:`, 'm'));
  });

  it('mounts the directory while the zone runs, and only then', async function () {
    if (!isRoot) {
      this.skip();
    }
    const target = node.path(`/zones/${ZONE}/root/.zonecontrol`);
    assert.ok(node.mounts().includes(target));
    assert.match(readFileSync(node.path('/etc/mnttab'), 'utf8'), /\.zonecontrol\tlofs\t/);
    await node.ok(['shutdown', ZONE]);
    assert.ok(!node.mounts().includes(target));
    await node.ok(['boot', ZONE]);
    assert.ok(node.mounts().includes(target));
  });

  it('gives a rebooted zone a new id', async () => {
    const before = await vminfodVm(node, ZONE);
    await node.ok(['reboot', ZONE]);
    const after = await vminfodVm(node, ZONE);
    assert.strictEqual(after?.zone_state, 'running');
    assert.notStrictEqual(after.zoneid, before?.zoneid);
  });

  it('removes all of a destroyed zone, and makes it anew under the same uuid', async () => {
    await node.ok(['create', '--boot'], JSON.stringify(vm(OTHER, { zone_state: 'installed' })));
    for (let round = 0; round < 2; round++) {
      assert.strictEqual((await vminfodVm(node, OTHER))?.zone_state, 'running');
      await node.ok(['destroy', OTHER]);
      assert.strictEqual(await vminfodVm(node, OTHER), undefined);
      assert.ok(!existsSync(node.path(`/zones/${OTHER}`)));
      assert.ok(!existsSync(node.path(`/var/zonecontrol/${OTHER}`)));
      assert.ok(!index().includes(OTHER));
      await node.ok(['create'], JSON.stringify(vm(OTHER)));
    }
    await node.ok(['destroy', OTHER]);
  });

  it('lists the zones for people and for programs', async () => {
    assert.match(await node.ok(['ls']), new RegExp(`ZONEID +UUID[^]*${ZONE} +joyent +running +z`));
    const [first] = JSON.parse(await node.ok(['ls', '--json'])) as { uuid: string }[];
    assert.strictEqual(first?.uuid, ZONE);
  });

  it('lists chosen columns in a chosen order, for scripts too', async () => {
    await node.ok(['create'], JSON.stringify(vm(OTHER, { alias: 'b', zone_state: 'installed' })));
    assert.strictEqual(await node.ok(['ls', '-H', '-o', 'alias', '-s', 'alias']), 'b\nz\n');
    assert.strictEqual(
      await node.ok(['ls', '-p', '-o', 'uuid,state,zoneid', '-s', '-alias', '-H']),
      `${ZONE}:running:${String((await vminfodVm(node, ZONE))?.zoneid)}\n${OTHER}:stopped:\n`,
    );
    const { status, stderr } = await node.simcn(['ls', '-o', 'colour']);
    assert.strictEqual(status, 2);
    assert.match(
      stderr,
      /^simcn: invalid order field: colour\n {2}the columns are alias, .*zoneid/,
    );
    await node.ok(['destroy', OTHER]);
  });

  it('knows a zone by its alias, and by its uuid as it is pasted', async () => {
    await node.ok(
      ['create'],
      JSON.stringify(vm(OTHER, { alias: 'other', zone_state: 'installed' })),
    );
    for (const word of [
      'other',
      OTHER.toUpperCase(),
      `${OTHER.slice(0, 8)}\u2026`,
      '54F1CC77...',
    ]) {
      await node.ok(['boot', word]);
      await node.ok(['shutdown', word]);
    }
    for (const word of ['', '\u2026', 'othe']) {
      const { status, stderr } = await node.simcn(['boot', word]);
      assert.deepStrictEqual(
        [status, stderr],
        [1, `simcn: no such zone: ${word} (list them: simcn ls)\n`],
      );
    }
    await node.ok(['destroy', '54f1']);
    assert.strictEqual(await vminfodVm(node, OTHER), undefined);
    const similar = [
      'a0000000-0000-4000-8000-000000000001',
      'a0000000-0000-4000-8000-000000000002',
    ];
    await node.ok(
      ['create'],
      JSON.stringify(similar.map((uuid) => vm(uuid, { zone_state: 'configured' }))),
    );
    const { status, stderr } = await node.simcn(['destroy', 'a0000000']);
    assert.strictEqual(status, 1);
    assert.match(stderr, /a0000000 could be 2 zones:\n {2}a0000000-.*0001 {2}z\n/);
    await Promise.all(similar.map((uuid) => node.ok(['destroy', uuid])));
  });

  it('prints its version', async () => {
    const { status, stdout } = await runProgram([process.execPath, SIMCN, '--version']);
    assert.strictEqual(status, 0);
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('refuses with a message, and changes nothing', async () => {
    const cases: [string[], string, RegExp][] = [
      [['boot', OTHER], '', /no such zone: 54f1cc77/],
      [['boot', ZONE], '', /is already running/],
      [['create'], JSON.stringify(vm(ZONE)), /already exists/],
      [
        ['create'],
        JSON.stringify(vm('nonsense')),
        /VM 0: (uuid: not a uuid|Invalid value\(s\) for: uuid)/,
      ],
      [['create'], JSON.stringify([vm(OTHER), vm(OTHER)]), /already exists/],
      [['rollback', ZONE, 'never'], '', /No snapshot named "never"/],
      [['fault', 'events.delay'], '', /needs a value/],
      [['fault', 'disk.full'], '', /--zone/],
    ];
    for (const [argv, stdin, words] of cases) {
      const { status, stderr } = await node.simcn(argv, stdin);
      assert.strictEqual(status, 1, argv.join(' '));
      assert.match(stderr, words);
    }
    assert.strictEqual((JSON.parse(await node.ok(['ls', '--json'])) as []).length, 1);
  });

  it('sees an edit of a config file as a change of the VM', async () => {
    const { stdout } = await runProgram([
      'sh',
      '-c',
      `cd '${node.path(`/zones/${ZONE}/config`)}' && echo '{"role":"db"}' > t && mv t tags.json`,
    ]);
    assert.strictEqual(stdout, '');
    await eventually(async () => {
      return JSON.stringify((await vminfodVm(node, ZONE))?.tags) === '{"role":"db"}';
    });
  });

  it('keeps its zones over a restart, as over a reboot of the host', async () => {
    const root = node.root;
    assert.strictEqual(await node.end(), 0);
    assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes(root));
    node = await SimNode.start({ root });
    assert.strictEqual(node.ready.zones, 1);
    const shown = await vminfodVm(node, ZONE);
    assert.strictEqual(shown?.zone_state, 'running');
    assert.deepStrictEqual(shown.tags, { role: 'db' });
  });

  it('cleans up after a run that was killed', async () => {
    const root = node.root;
    await node.end('SIGKILL');
    node = await SimNode.start({ root });
    assert.strictEqual((await vminfodVm(node, ZONE))?.zone_state, 'running');
    const below = node.mounts();
    assert.strictEqual(new Set(below).size, below.length, 'mounted twice');
  });

  it('lets no second node onto its root', async () => {
    const second = await runProgram([process.execPath, SIMCN, 'up', '--root', node.root]);
    assert.strictEqual(second.status, 1);
    assert.match(second.stderr, /a node is up at .* already/);
  });

  it('refuses a root too long for the sockets below it, naming the limit', async () => {
    const long = `/tmp/${'x'.repeat(60)}`;
    const { status, stderr } = await runProgram([process.execPath, SIMCN, 'up', '--root', long]);
    assert.strictEqual(status, 1);
    assert.match(stderr, /65 bytes, and at most 40/);
    assert.ok(!existsSync(long));
  });

  it('takes the root before the command, behind it, or from the variable of all programs', async () => {
    const env = { ...process.env, MDATAD_ROOT: node.root };
    const none = join(node.root, 'none');
    const ls = (env: NodeJS.ProcessEnv, ...args: string[]): string => {
      const { stdout } = spawnSync(process.execPath, [SIMCN, ...args], { env, encoding: 'utf8' });
      return stdout;
    };
    const listed = await node.ok(['ls', '-H']);
    assert.notStrictEqual(listed, '');
    assert.strictEqual(ls(env, 'ls', '-H'), listed);
    assert.strictEqual(ls(process.env, '--root', node.root, 'ls', '-H'), listed);
    assert.strictEqual(ls(env, '--root', none, 'ls', '--root', node.root, '-H'), listed);
    assert.strictEqual(ls(env, '--root', none, 'ls', '-H'), '');
  });

  it('says where no node is up', async () => {
    const { status, stderr } = await runProgram([
      process.execPath,
      SIMCN,
      'ls',
      '--root',
      '/tmp/no',
    ]);
    assert.strictEqual(status, 1);
    assert.match(stderr, /no node is up at \/tmp\/no/);
  });
});

describe('simcn: a node full of zones', function () {
  this.timeout(120_000);

  it('creates and boots 500 zones at once, and halts them all', async function () {
    needs(this, whyNoNode());
    const vms = Array.from({ length: 500 }, (_, i) =>
      vm(`00000000-0000-4000-8000-${String(i).padStart(12, '0')}`),
    );
    const started = Date.now();
    const node = await SimNode.start({ vms });
    const took = Date.now() - started;
    try {
      const zones = JSON.parse(await node.ok(['ls', '--json'])) as { zone_state: string }[];
      assert.strictEqual(zones.filter((zone) => zone.zone_state === 'running').length, 500);
      assert.ok(took < 60_000, `took ${took} ms`);
      assert.strictEqual(await node.end(), 0);
      assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes(node.root));
    } finally {
      await node.stop();
    }
  });
});
