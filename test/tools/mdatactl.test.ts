/*
 * mdatactl as an operator and a script meet it: a process, its output, its exit status.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { MOST_FOLLOWERS } from '../../src/admin/tail';
import { isJsonObject, parseJsonObject } from '../../src/metadata/vm-data';
import { AgentProcess } from '../support/guest-agent';
import { GuestSession } from '../support/guest-session';
import { needs, needsRoot } from '../support/pending';
import { runProgram, SimNode, whyNoNode, type Result } from '../support/simcn';
import { tempDir } from '../support/temp-dir';
import { vmObject, zonenameOf } from '../support/vm-objects';
import { adminSocketOf, openAdmin } from '../support/admin';
import { eventually } from '../support/eventually';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
const SECRET = 'Hae6-planted-secret';
const OS_ZONE = zonenameOf(1);
const HVM_ZONE = zonenameOf(2);
/** The bound on an answer is 10 s; the rest is for programs to start. */
const STOPPED_MS = 20_000;
const VMS = [
  vmObject(OS_ZONE, {
    alias: 'web0',
    zonepath: `/zones/${OS_ZONE}`,
    datasets: [`zones/${OS_ZONE}/data`],
    zfs_snapshot_limit: 8,
    customer_metadata: { key: SECRET, multi: 'a\nb' },
  }),
  vmObject(HVM_ZONE, { alias: 'hvm0', brand: 'bhyve' }),
];

function mdatactl(root: string, argv: readonly string[], stdin = ''): Promise<Result> {
  return runProgram([process.execPath, MDATACTL, '--root', root, ...argv], stdin);
}

describe('mdatactl', function () {
  this.timeout(60_000);
  const ends: (() => Promise<void>)[] = [];
  let node: SimNode;
  let agent: AgentProcess;
  let ctl: (...argv: string[]) => Promise<Result>;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: VMS });
    ends.push(() => node.stop());
    agent = await AgentProcess.start(node.root);
    ends.unshift(() => agent.stop());
    ctl = (...argv) => mdatactl(node.root, argv);
  });

  after(async () => {
    for (const end of ends) {
      await end();
    }
  });

  it('shows each view to a person within 100 columns, without colour when it is no terminal', async function () {
    needsRoot(this);
    const views = [['status'], ['zones'], ['doctor'], ['doctor', OS_ZONE], ['zone', HVM_ZONE]];
    for (const argv of views) {
      const { status, stdout, stderr } = await ctl(...argv);
      assert.strictEqual(status, 0, `${argv.join(' ')}: ${stdout}${stderr}`);
      assert(!stdout.includes('\u001b'), 'no colour');
      // Paths, remedies and cells of tables are never cut, so that they can be copied.
      const wide = stdout.split('\n').filter((line) => line.length > 100 && !/[/]|->/.test(line));
      assert.deepStrictEqual(argv[0] === 'zones' ? [] : wide, []);
    }
    assert.match((await ctl('status')).stdout, /^sockets +1 of 1 listening$/m);
    assert.match((await ctl('zones')).stdout, new RegExp(`^${OS_ZONE}  web0 .* listening`, 'm'));
  });

  it('never cuts a table in a pipe, however narrow the terminal is said to be', async () => {
    for (const view of [['zones'], ['datasets', OS_ZONE]]) {
      const argv = ['env', 'COLUMNS=40', process.execPath, MDATACTL, ...view, '--root', node.root];
      const { stdout } = await runProgram(argv);
      assert.match(stdout, new RegExp(`^${OS_ZONE}  web0 `, 'm'));
    }
  });

  it('takes the options of vmadm list and zfs list for its tables', async () => {
    const bare = await ctl('zones', '-H', '-p', '-o', 'alias,brand,state', '-s', '-alias');
    assert.deepStrictEqual(bare, {
      status: 0,
      stdout: 'web0:joyent-minimal:running\nhvm0:bhyve:running\n',
      stderr: '',
    });
    assert.strictEqual((await ctl('datasets', '-H', '-o', 'alias')).stdout, 'web0\n');
    const wrong = await ctl('zones', '-o', 'nope');
    assert.strictEqual(wrong.status, 3);
    assert.match(wrong.stderr, /no field is named nope; there are zone, alias, /);
  });

  it('takes a zone by its alias, in any case, and as other tools shorten it', async () => {
    for (const word of ['web0', OS_ZONE.toUpperCase(), `${OS_ZONE}...`]) {
      const { status, stdout } = await ctl('zone', word);
      assert.strictEqual(status, 0, word);
      assert.match(stdout, new RegExp(`^${OS_ZONE}  web0`));
    }
  });

  it('prints its version', async () => {
    assert.match((await ctl('--version')).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('gives scripts JSON everywhere', async function () {
    needsRoot(this);
    const views = ['status', 'zones', 'doctor', 'metrics', 'log-level', 'datasets'];
    for (const argv of [
      ...views.map((view) => [view]),
      ['zone', OS_ZONE],
      ['get', OS_ZONE, 'key'],
    ]) {
      const { status, stdout } = await ctl(...argv, '--json');
      assert.strictEqual(status, 0, argv.join(' '));
      assert.doesNotThrow(() => JSON.parse(stdout), argv.join(' '));
      assert(!stdout.includes(SECRET));
    }
    const zones: unknown = JSON.parse((await ctl('zones', '--json')).stdout);
    assert(Array.isArray(zones));
    const first: unknown = zones.find((zone) => isJsonObject(zone) && zone.zonename === OS_ZONE);
    assert(isJsonObject(first));
    assert.deepStrictEqual(
      [first.alias, first.brand, first.state, first.link],
      ['web0', 'joyent-minimal', 'running', 'listening'],
    );
  });

  it('takes a zone by its alias, and by the beginning of its uuid when that is clear', async () => {
    assert.match((await ctl('zone', 'web0')).stdout, new RegExp(`^${OS_ZONE}  web0`));
    const unclear = await ctl('zone', OS_ZONE.slice(0, 8));
    assert.strictEqual(unclear.status, 2);
    assert.match(unclear.stderr, /could be 2 zones/);
    const unknown = await ctl('doctor', 'nobody');
    assert.strictEqual(unknown.status, 2);
    assert.match(unknown.stderr, /no such zone: nobody/);
  });

  it('asks for a key as the guest would, and shows its value only with --show-value', async () => {
    const found = await ctl('get', OS_ZONE, 'key');
    assert.deepStrictEqual(
      [found.status, found.stdout],
      [0, `found, ${SECRET.length} bytes (--show-value prints it)\n`],
    );
    const shown = await ctl('get', OS_ZONE, 'multi', '--show-value');
    assert.deepStrictEqual([shown.status, shown.stdout], [0, 'a\nb\n']);
    const json = await ctl('get', 'web0', 'key', '--json', '--show-value');
    assert.deepStrictEqual(JSON.parse(json.stdout), {
      zonename: OS_ZONE,
      key: 'key',
      found: true,
      length: SECRET.length,
      value: SECRET,
    });
    assert.deepStrictEqual(
      (({ status, stdout }) => [status, stdout])(await ctl('get', OS_ZONE, 'absent')),
      [1, 'not found: absent\n'],
    );
  });

  it('says where to ask for a key of an HVM guest', async () => {
    const { status, stderr } = await ctl('get', HVM_ZONE, 'key');
    assert.strictEqual(status, 2);
    assert.match(stderr, /is a bhyve guest: it has a serial port, no socket/);
    assert.match(stderr, /mdata-get KEY/);
  });

  it('exits as monitors expect: 0 healthy, 1 warnings, 2 broken', async function () {
    needsRoot(this);
    assert.strictEqual((await ctl('doctor')).status, 0);
    const path = node.path(`/zones/${OS_ZONE}/config/tags.json`);
    writeFileSync(path, 'no json');
    const broken = await ctl('doctor');
    assert.strictEqual(broken.status, 2);
    assert.match(broken.stdout, /tags\.json +FAIL/);
    assert.match(broken.stdout, /^broken: 1 fault$/m);
    await eventually(async () => (await ctl('status')).status === 3, 'degraded');
    // Whoever reads the first line only gets the same answer.
    const script = '"$0" "$@" | head -1 >/dev/null; exit ${PIPESTATUS[0]}';
    for (let n = 0; n < 3; n++) {
      const argv = ['-c', script, process.execPath, MDATACTL, '--root', node.root, 'status'];
      const [code] = (await once(spawn('bash', argv), 'close')) as [number];
      assert.strictEqual(code, 3);
    }
    writeFileSync(path, '{}');
    await eventually(async () => (await ctl('doctor')).status === 0, 'no trace of it');
    await node.ok(['fault', 'lock.held', '--zone', OS_ZONE]);
    assert.strictEqual((await ctl('doctor', OS_ZONE)).status, 0, 'a lock that nobody waits for');
    const guest = await GuestSession.open(node.path(`/var/zonecontrol/${OS_ZONE}/metadata.sock`));
    const written = guest.put('late', 'value');
    await eventually(async () => (await ctl('doctor', OS_ZONE)).status === 1, 'a write waits');
    await node.ok(['fault', '--clear']);
    assert.strictEqual((await written).code, 'SUCCESS');
    guest.close();
    await eventually(async () => (await ctl('doctor')).status === 0, 'well again');
  });

  it('changes the level of the log and prints the old one', async () => {
    assert.strictEqual((await ctl('log-level', 'debug')).stdout, 'debug (was info)\n');
    assert.strictEqual((await ctl('log-level')).stdout, 'debug\n');
    assert.strictEqual((await ctl('log-level', 'info')).stdout, 'info (was debug)\n');
    const loud = await ctl('log-level', 'loud');
    assert.strictEqual(loud.status, 3);
    assert.match(loud.stderr, /Allowed choices are trace, debug, info, warn, error/);
    const changes = agent.records.filter(({ msg }) => msg === 'log level changed');
    assert.deepStrictEqual(
      changes.map(({ now, before, level }) => [now, before, level]),
      [
        ['debug', 'info', 30],
        ['info', 'debug', 30],
      ],
    );
  });

  it('notifies the agent of a zone, and prints the state that the agent found', async () => {
    const { stdout } = await ctl('notify', OS_ZONE, 'halted');
    assert.strictEqual(stdout, `${OS_ZONE}: you said halted, it is running\n`);
    const byAlias = await ctl('notify', 'web0', 'running');
    assert.strictEqual(byAlias.stdout, `${OS_ZONE}: you said running, it is running\n`);
    const unknown = await ctl('notify', zonenameOf(9), 'running');
    assert.strictEqual(unknown.status, 1);
    assert.match(unknown.stdout, /no such zone on this node/);
    const sideways = await ctl('notify', OS_ZONE, 'sideways');
    assert.strictEqual(sideways.status, 3);
    assert.match(sideways.stderr, /Allowed choices are created, .*, deleted/);
    const gone = await ctl('notify', zonenameOf(9), 'deleted', '--json');
    assert.strictEqual(gone.status, 0);
    assert.deepStrictEqual(JSON.parse(gone.stdout), {
      zonename: zonenameOf(9),
      said: 'deleted',
      is: null,
    });
  });

  it('suggests a key where a guest asked for one that does not exist', async () => {
    const asked = await node.exec(OS_ZONE, 'mdata-get', 'sdc:account_uuid');
    assert.strictEqual(asked.status, 1);
    const { stdout } = await ctl('zone', OS_ZONE);
    assert.match(stdout, /hint\s+there is no sdc:account_uuid; the guest may mean sdc:owner_uuid/);
    assert.match(stdout, /handled GET sdc:account_uuid \(there is sdc:owner_uuid\)/);
    const { hints } = parseJsonObject((await ctl('zone', OS_ZONE, '--json')).stdout) ?? {};
    assert.deepStrictEqual(hints, [{ asked: 'sdc:account_uuid', meant: 'sdc:owner_uuid' }]);
    const tail = await ctl('tail', OS_ZONE, '-n', '20', '--no-follow', '--json');
    assert.match(tail.stdout, /"arg":"sdc:account_uuid".*"hint":"sdc:owner_uuid"/);
    assert.doesNotMatch(agent.records.map((record) => JSON.stringify(record)).join(), /"hint"/);
  });

  it('follows the log of a zone, line by line', async () => {
    const argv = [MDATACTL, 'tail', OS_ZONE, '--json', '--root', node.root];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
    await eventually(async () => {
      await ctl('get', OS_ZONE, 'key');
      return lines.length > 0;
    }, 'a record');
    child.kill('SIGTERM');
    await once(child, 'exit');
    const record = parseJsonObject(lines[0] ?? '');
    assert.deepStrictEqual([record?.zonename, record?.msg], [OS_ZONE, 'handled GET']);
  });

  it('cuts no record in a pipe', async () => {
    const child = spawn(process.execPath, [MDATACTL, 'tail', '--root', node.root], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
    await eventually(async () => {
      await node.exec(OS_ZONE, 'mdata-put', `a-key-that-is-long-${'x'.repeat(100)}`, '1');
      return lines.some((line) => /PUT a-key-that.*peer=\{"pid":\d+,"uid":0\}$/.test(line));
    }, 'the whole record of a write');
    child.kill('SIGTERM');
    await once(child, 'exit');
  });

  it('follows no zone that does not exist, and says why', async () => {
    const { status, stdout, stderr } = await ctl('tail', zonenameOf(99));
    assert.deepStrictEqual([status, stdout], [2, '']);
    const [first, ...help] = stderr.trimEnd().split('\n');
    assert.strictEqual(first, `mdatactl: no such zone: ${zonenameOf(99)}`);
    assert(
      help.some((line) => line.startsWith('  did you mean: ')),
      stderr,
    );
    assert.match(help.at(-1) ?? '', /^ {2}the agent's zones: mdatactl zones .* vmadm list$/);
    const others = await Promise.all(
      Array.from({ length: MOST_FOLLOWERS }, () => openAdmin(node.root, '/tail')),
    );
    const refused = await ctl('tail');
    others.forEach((other) => other.destroy());
    assert.deepStrictEqual([refused.status, refused.stdout], [2, '']);
    assert.strictEqual(refused.stderr, 'mdatactl: too many clients follow the log already\n');
  });

  it('reports that the agent ended when it is killed while its log is followed', async () => {
    const other = await SimNode.start({ vms: [] });
    try {
      const victim = await AgentProcess.start(other.root);
      const followed = mdatactl(other.root, ['tail']);
      await eventually(async () =>
        (await mdatactl(other.root, ['status'])).stdout.includes('1 follower'),
      );
      await victim.kill();
      const { status, stderr } = await followed;
      assert.strictEqual(status, 2);
      assert.match(stderr, /^mdatactl: the agent ended: no more records come from it\n/);
    } finally {
      await other.stop();
    }
  });

  it('reports a stopped agent within seconds, for every command', async () => {
    process.kill(agent.pid, 'SIGSTOP');
    try {
      const began = performance.now();
      const asked = [
        ['status'],
        ['doctor'],
        ['datasets'],
        ['tail'],
        ['notify', OS_ZONE, 'changed'],
      ];
      const results = await Promise.all(asked.map((argv) => ctl(...argv)));
      assert(performance.now() - began < STOPPED_MS);
      for (const [at, { status, stdout, stderr }] of results.entries()) {
        assert.deepStrictEqual([status, stdout], [at === 0 ? 4 : 2, '']);
        assert.match(
          stderr,
          /mdatad is there but did not answer ".*" within 10 s\n.*stopped or wedged/,
        );
      }
    } finally {
      process.kill(agent.pid, 'SIGCONT');
    }
    // Its event loop was held up for half of a window: healthy it is once that is over.
    await eventually(async () => (await ctl('status')).status === 0, 'it goes on', 30_000);
  });

  it('expands a safe dataset by the policy of the running agent, and refuses with reasons', async () => {
    const payload = { brand: 'joyent', delegate_dataset: 'safe', limit_priv: 'default' };
    const good = await mdatactl(node.root, ['datasets', 'expand'], JSON.stringify(payload));
    assert.strictEqual(good.status, 0, good.stderr);
    assert.deepStrictEqual(JSON.parse(good.stdout), {
      brand: 'joyent',
      delegate_dataset: true,
      limit_priv: 'default,-sys_fs_import',
      zfs_snapshot_limit: 128,
      zfs_filesystem_limit: 32,
    });
    const hvm = JSON.stringify({ ...payload, brand: 'bhyve' });
    const bad = await mdatactl(node.root, ['datasets', 'expand'], hvm);
    assert.strictEqual(bad.status, 1);
    assert.match(bad.stderr, /HVM guests \(bhyve\) have disks/);
    const broken = await mdatactl(node.root, ['datasets', 'expand'], `{"pw":"${SECRET}",}`);
    assert.deepStrictEqual(
      [broken.status, broken.stderr],
      [3, 'mdatactl: stdin is not JSON\n  give a payload, as vmadm create takes it\n'],
    );
    const audited = await ctl('datasets');
    assert.match(audited.stdout, /UNSAFE/);
    assert.match(audited.stdout, new RegExp(`vmadm update ${OS_ZONE} <<<'`));
  });

  it('says what it tried and what to do when the agent is not there', async () => {
    const dir = tempDir();
    try {
      const absent = await mdatactl(dir.path, ['status']);
      assert.strictEqual(absent.status, 4);
      assert(absent.stderr.includes(`no socket at ${adminSocketOf(dir.path)}`));
      assert.match(absent.stderr, /svcadm enable mdatad/);
      assert.strictEqual(absent.stdout, '');
    } finally {
      dir.remove();
    }
  });

  it('distinguishes a stale socket from a missing one', async () => {
    const dir = tempDir();
    try {
      const { stdout } = await runProgram(['mkdir', '-p', join(dir.path, 'var/run/mdatad')]);
      assert.strictEqual(stdout, '');
      const path = adminSocketOf(dir.path);
      const argv = ['-e', `require('net').createServer().listen(${JSON.stringify(path)})`];
      const child = spawn(process.execPath, argv, { stdio: 'ignore' });
      await eventually(async () => (await runProgram(['test', '-S', path])).status === 0);
      child.kill('SIGKILL');
      await once(child, 'exit');
      const left = await mdatactl(dir.path, ['doctor']);
      assert.strictEqual(left.status, 2);
      assert.match(left.stderr, /nobody listens/);
    } finally {
      dir.remove();
    }
  });

  it('distinguishes wrong usage from failure, and documents its exit codes', async () => {
    assert.strictEqual((await ctl('zone')).status, 3);
    assert.strictEqual((await ctl('nonsense')).status, 3);
    assert.strictEqual((await ctl('status', '--nonsense')).status, 3);
    const help = await ctl('--help');
    assert.strictEqual(help.status, 0);
    assert.match(help.stdout, /Exit status:\n +0 +done/);
  });
});
