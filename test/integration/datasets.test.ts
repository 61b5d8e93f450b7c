/*
 * Delegated datasets from end to end: what a guest keeps and may do, and what the node says of it.
 */
import assert from 'node:assert';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { needs, pending } from '../support/pending';
import { runProgram, SimNode, whyNoNode, type Result } from '../support/simcn';
import { isJsonObject, parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');

const DATABASE = '7d2f5d3e-1a55-4c11-9a38-3f4c8e5b9a01';
const OPERATOR = '7d2f5d3e-1a55-4c11-9a38-3f4c8e5b9a02';
const CUSTOMER = '7d2f5d3e-1a55-4c11-9a38-3f4c8e5b9a03';
const MACHINE = '7d2f5d3e-1a55-4c11-9a38-3f4c8e5b9a04';
const OUTSIDE = '7d2f5d3e-1a55-4c11-9a38-3f4c8e5b9a05';
const OWNER = '00000000-0000-4000-8000-00000000000a';

const DATA = `/zones/${DATABASE}/data`;
const SET = `zones/${CUSTOMER}/data`;

const VMS = [
  {
    uuid: DATABASE,
    alias: 'database',
    delegate_dataset: 'safe',
    customer_metadata: { motd: 'as ever' },
  },
  { uuid: OPERATOR, alias: 'operator', delegate_dataset: true },
  {
    uuid: CUSTOMER,
    alias: 'customer',
    owner_uuid: OWNER,
    delegate_dataset: 'safe',
    limit_priv: 'default,dtrace_user',
    zfs_snapshot_limit: 3,
    zfs_filesystem_limit: 2,
  },
  { uuid: MACHINE, alias: 'machine', brand: 'kvm' },
  {
    uuid: OUTSIDE,
    alias: 'outside',
    datasets: [`zones/${OUTSIDE}/data`, 'data/export/test'],
    limit_priv: 'default,-sys_fs_import',
    zfs_snapshot_limit: 128,
    zfs_filesystem_limit: 32,
  },
].map((vm) => ({ brand: 'joyent', ...vm }));

/** What `simcn exec` says of a zone that is halted at that moment: its client was never there. */
const NOT_THERE = /is not running|no such zone/;
/** A command that ended with its zone: 128 + SIGKILL. */
const KILLED = 137;

describe('delegated datasets', function () {
  this.timeout(120_000);
  let node: SimNode;
  let agent: AgentProcess;
  let config: string;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: VMS });
    config = node.path('/mdatad.json');
    writeFileSync(config, '{}');
    agent = await AgentProcess.start(node.root, ['--config', config]);
    if ((await node.exec(DATABASE, 'true')).status !== 0) {
      pending(this, 'no zone can be entered, for want of namespaces');
    }
  });

  after(async () => {
    await agent.stop();
    await node.stop();
  });

  async function inZone(uuid: string, script: string): Promise<string> {
    const { status, stdout, stderr } = await node.exec(uuid, 'sh', '-c', script);
    assert.strictEqual(status, 0, `${script}: ${stderr}`);
    return stdout;
  }

  async function refused(uuid: string, ...argv: string[]): Promise<string> {
    const { status, stderr } = await node.exec(uuid, ...argv);
    assert.strictEqual(status, 1, `${argv.join(' ')}: ${stderr}`);
    return stderr;
  }

  async function update(uuid: string, payload: object): Promise<void> {
    const { status, stderr } = await node.vmadm(['update', uuid], JSON.stringify(payload));
    assert.strictEqual(status, 0, stderr);
  }

  function mdatactl(argv: readonly string[], stdin = ''): Promise<Result> {
    return runProgram([process.execPath, MDATACTL, '--root', node.root, ...argv], stdin);
  }

  async function printed(...argv: string[]): Promise<JsonObject> {
    const { status, stdout, stderr } = await mdatactl(['--json', ...argv]);
    assert.strictEqual(status, 0, stderr);
    const parsed = parseJsonObject(stdout);
    assert(parsed !== undefined, stdout);
    return parsed;
  }

  async function datasetsStatus(): Promise<JsonObject> {
    const { datasets } = await printed('status');
    assert(isJsonObject(datasets));
    return datasets;
  }

  /** The live audit's warnings of one zone, each as the rules that are broken. */
  function warnings(uuid: string): string[] {
    return agent.records
      .filter(
        (record) => record.zonename === uuid && String(record.msg).includes('unsafe for the node'),
      )
      .map(({ findings }) => {
        const list: unknown[] = Array.isArray(findings) ? findings : [];
        return list.map((each) => (isJsonObject(each) ? String(each.rule) : '?')).join(' ');
      });
  }

  it('are shown to the guest with its permissions', async () => {
    const names = await inZone(DATABASE, 'mdata-get sdc:datasets');
    assert.deepStrictEqual(JSON.parse(names), [`zones/${DATABASE}/data`]);
    assert.strictEqual(await inZone(DATABASE, 'mdata-get sdc:delegate_dataset'), 'safe\n');
    assert.strictEqual(await inZone(DATABASE, 'mdata-get sdc:zfs_snapshot_limit'), '128\n');
    assert.strictEqual(await inZone(DATABASE, 'mdata-get sdc:zfs_filesystem_limit'), '32\n');
    assert.strictEqual(await inZone(OPERATOR, 'mdata-get sdc:delegate_dataset'), 'true\n');
    assert.strictEqual(await inZone(CUSTOMER, 'mdata-get sdc:zfs_snapshot_limit'), '3\n');
    const { stdout } = await node.vmadm(['get', CUSTOMER]);
    assert.strictEqual(parseJsonObject(stdout)?.limit_priv, 'default,dtrace_user,-sys_fs_import');
  });

  it('enforce their limits, and refuse a stream without the privilege', async () => {
    await inZone(CUSTOMER, `zfs create ${SET}/a && zfs create -V 1M ${SET}/v`);
    assert.match(await refused(CUSTOMER, 'zfs', 'create', `${SET}/b`), /limit of 2 filesystems/);
    await inZone(CUSTOMER, `echo one > /${SET}/a/f && zfs snapshot -r ${SET}@s1`);
    // All or none: there is no room for three more.
    assert.match(
      await refused(CUSTOMER, 'zfs', 'snapshot', '-r', `${SET}@s2`),
      /limit of 3 snapshots/,
    );
    assert.strictEqual(
      await inZone(CUSTOMER, 'zfs list -H -t snapshot -o name'),
      [`${SET}@s1`, `${SET}/a@s1`, `${SET}/v@s1`].map((name) => `${name}\n`).join(''),
    );
    const receive = `zfs send ${SET}/a@s1 > /tmp/stream && zfs destroy ${SET}/v@s1 && zfs destroy ${SET}/v`;
    await inZone(CUSTOMER, receive);
    assert.match(
      await refused(CUSTOMER, 'sh', '-c', `zfs recv ${SET}/copy < /tmp/stream`),
      /^cannot receive new filesystem stream: permission denied$/m,
    );
    await inZone(CUSTOMER, `echo two > /${SET}/a/f && zfs rollback ${SET}/a@s1`);
    assert.strictEqual(await inZone(CUSTOMER, `cat /${SET}/a/f`), 'one\n');
    assert.match(await refused(CUSTOMER, 'zfs', 'destroy', '-r', SET), /permission denied/);
  });

  it('receive streams in a zone without the safe policy, and remove a broken one', async () => {
    const set = `zones/${OPERATOR}/data`;
    await inZone(OPERATOR, `zfs create ${set}/db && echo row > /${set}/db/t`);
    await inZone(
      OPERATOR,
      `zfs snapshot ${set}/db@s && zfs send ${set}/db@s | zfs recv ${set}/copy@s`,
    );
    assert.strictEqual(await inZone(OPERATOR, `cat /${set}/copy/t`), 'row\n');
    await refused(OPERATOR, 'sh', '-c', `echo garbage | zfs recv ${set}/broken`);
    assert.strictEqual(
      await inZone(OPERATOR, 'zfs list -H -t all -o name'),
      ['', '/copy', '/copy@s', '/db', '/db@s'].map((name) => `${set}${name}\n`).join(''),
    );
  });

  it('keep a guest’s data and its metadata through rollback, reprovisions and reboot', async () => {
    const rows = Array.from({ length: 500 }, (_, i) => `row ${i}`).join('\n');
    await node.simcn(['exec', DATABASE, '--', 'sh', '-c', `cat > ${DATA}/db`], `${rows}\n`);
    await inZone(DATABASE, `zfs snapshot zones/${DATABASE}/data@guest`);
    await inZone(DATABASE, 'echo before > /root/mark && mdata-put state kept');

    const clients = new Clients(node);
    clients.start();
    await node.ok(['snapshot', DATABASE, 's1']);
    await inZone(DATABASE, `echo after > /root/mark && echo more >> ${DATA}/db`);
    await node.ok(['rollback', DATABASE, 's1']);
    assert.strictEqual(await inZone(DATABASE, 'cat /root/mark'), 'before\n');
    for (let round = 0; round < 3; round++) {
      await inZone(DATABASE, `echo ${round} > /root/mark`);
      await node.ok(['reprovision', DATABASE]);
      assert.strictEqual(await inZone(DATABASE, 'ls /root'), '', 'the root is a fresh one');
    }
    await node.ok(['reboot', DATABASE]);
    await clients.answeredAgain();
    const { answers, wrong } = await clients.stop();

    assert.deepStrictEqual(wrong, []);
    assert(answers > 10, `${answers} answers while the zone came and went`);
    assert.strictEqual(await inZone(DATABASE, `cat ${DATA}/db`), `${rows}\nmore\n`);
    assert.strictEqual(await inZone(DATABASE, 'mdata-get state'), 'kept\n');
    assert.strictEqual((await node.simcn(['rollback', DATABASE, 's1'])).status, 1);
    const kept = await inZone(DATABASE, 'zfs list -H -t snapshot -o name');
    assert.strictEqual(kept, `zones/${DATABASE}/data@guest\n`, 'the guest’s own snapshot stays');
    const log = await inZone(DATABASE, `cat ${DATA}/answers`);
    const odd = log.split('\n').filter((line) => line !== '' && line !== 'as ever');
    assert.deepStrictEqual(odd, [], 'no client inside saw anything but the right answer');
    assert(log.length > 0);
  });

  it('do not make snapshots of a kvm guest possible', async () => {
    const { status, stderr } = await node.simcn(['snapshot', MACHINE, 's']);
    assert.strictEqual(status, 1);
    assert.match(stderr, /snapshots of a kvm guest are refused/);
  });

  it('cause one warning for each change, and are counted', async () => {
    await eventually(async () => {
      const { verdicts } = await datasetsStatus();
      return JSON.stringify(verdicts) === '{"safe":2,"unsafe":1,"unknown":0,"exempt":1}';
    }, 'two are safe, one is plain, and one has a dataset without limits');
    assert.deepStrictEqual(warnings(OUTSIDE), ['dataset-outside']);
    assert.strictEqual(await inZone(OUTSIDE, 'mdata-get sdc:delegate_dataset'), 'true\n');
    assert.deepStrictEqual(warnings(CUSTOMER), []);

    await update(CUSTOMER, { limit_priv: 'default,dtrace_user' });
    await eventually(() => warnings(CUSTOMER).length === 1, 'the privilege is warned of');
    assert.deepStrictEqual(warnings(CUSTOMER), ['receive-granted']);

    // Changes of something else, and a reboot, say nothing new.
    await update(CUSTOMER, { alias: 'renamed' });
    await node.ok(['reboot', CUSTOMER]);
    // A slice of audits comes before the answer to whoever asks after it.
    await datasetsStatus();
    assert.deepStrictEqual(warnings(CUSTOMER), ['receive-granted']);

    await update(CUSTOMER, { zfs_snapshot_limit: 1 });
    const audit = await mdatactl(['datasets', CUSTOMER]);
    assert.match(audit.stdout, /2 are used of zfs_snapshot_limit 1/);
    assert.match(audit.stdout, /UNSAFE/);
    assert.match(audit.stdout, /vmadm update/);
    assert.strictEqual(await inZone(CUSTOMER, 'mdata-get sdc:delegate_dataset'), 'true\n');

    const { rules, verdicts } = await datasetsStatus();
    assert(isJsonObject(rules) && isJsonObject(verdicts));
    assert.strictEqual(rules['receive-granted'], 1);
    assert.strictEqual(verdicts.unsafe, 2);
    const { stdout: metrics } = await mdatactl(['metrics']);
    assert.match(metrics, /^mdatad_datasets\{verdict="unsafe"\} 2$/m);
    assert.match(metrics, /^mdatad_dataset_rules_broken\{rule="receive-granted"\} 1$/m);

    await update(CUSTOMER, { limit_priv: 'default,-sys_fs_import', zfs_snapshot_limit: 3 });
    await eventually(async () => {
      const now = (await datasetsStatus()).verdicts;
      return isJsonObject(now) && now.safe === 2 && now.unsafe === 1;
    }, 'it is safe again');
  });

  it('share their limits with the zoneroot, whose snapshots count too', async () => {
    const used = async (): Promise<unknown> => {
      const text = JSON.stringify(await printed('datasets', CUSTOMER));
      return /"zfs_snapshot_limit":\{"limit":3,"used":(\d+)\}/.exec(text)?.[1];
    };
    assert.strictEqual(await used(), '2');
    await node.ok(['snapshot', CUSTOMER, 'root']);
    assert.strictEqual(await used(), '3');
  });

  it('follow the policy and the owners in the configuration at SIGHUP', async () => {
    const reload = (datasets: object): void => {
      writeFileSync(config, JSON.stringify({ datasets }));
      process.kill(agent.pid, 'SIGHUP');
    };
    reload({ plain_owners: [OWNER] });
    await eventually(() => warnings(OPERATOR).length === 1, 'a plain one of nobody on the list');
    assert.match(warnings(OPERATOR)[0] ?? '', /receive-granted limit-missing limit-missing/);

    reload({ owners: [] });
    const payload = JSON.stringify({
      brand: 'joyent',
      delegate_dataset: 'safe',
      owner_uuid: OWNER,
    });
    await eventually(async () => {
      const { status, stderr } = await mdatactl(['datasets', 'expand'], payload);
      return status !== 0 && stderr.includes('owner-not-allowed: ');
    }, 'the owner is not on the list');

    reload({ enabled: false });
    await eventually(async () => {
      const { status, stderr } = await mdatactl(['datasets', 'expand'], payload);
      return status !== 0 && stderr.includes('feature-off: ');
    }, 'the feature is off');
    const { enabled, verdicts } = await datasetsStatus();
    assert.strictEqual(enabled, false);
    assert.deepStrictEqual(verdicts, { safe: 0, unsafe: 0, unknown: 0, exempt: 0 });

    reload({});
    await eventually(async () => {
      const { status } = await mdatactl(['datasets', 'expand'], payload);
      return status === 0;
    });
    const expanded = await mdatactl(['datasets', 'expand'], payload);
    assert.deepStrictEqual(JSON.parse(expanded.stdout), {
      brand: 'joyent',
      delegate_dataset: true,
      owner_uuid: OWNER,
      limit_priv: 'default,-sys_fs_import',
      zfs_snapshot_limit: 128,
      zfs_filesystem_limit: 32,
    });
  });
});

/** Two kinds of clients: one started after the other from outside, and a loop inside the zone. */
class Clients {
  private readonly node: SimNode;
  private readonly wrong: string[] = [];
  private answers = 0;
  private stopped = false;
  private running: Promise<unknown> = Promise.resolve();

  constructor(node: SimNode) {
    this.node = node;
  }

  start(): void {
    const inside = `while [ ! -e ${DATA}/stop ]; do mdata-get motd >>${DATA}/answers 2>&1 || echo failed $? >>${DATA}/answers; done`;
    this.running = Promise.all([
      this.repeat(['mdata-get', 'motd'], 'as ever\n'),
      this.repeat(['sh', '-c', inside], ''),
    ]);
  }

  /** Resolves when a client that began after this was asked has its answer. */
  async answeredAgain(): Promise<void> {
    const before = this.answers;
    await eventually(() => this.answers > before + 1, 'clients are answered');
  }

  async stop(): Promise<{ readonly answers: number; readonly wrong: readonly string[] }> {
    this.stopped = true;
    await this.node.exec(DATABASE, 'touch', `${DATA}/stop`);
    await this.running;
    return { answers: this.answers, wrong: this.wrong };
  }

  /** Starts it again and again. What the zone's halt ended, or found halted, is no answer at all. */
  private async repeat(argv: readonly string[], expected: string): Promise<void> {
    while (!this.stopped) {
      const { status, stdout, stderr } = await this.node.exec(DATABASE, ...argv);
      if (status === 0 && stdout === expected) {
        this.answers++;
      } else if (status !== KILLED && !NOT_THERE.test(stderr)) {
        this.wrong.push(`${argv.join(' ')}: ${status} ${stdout} ${stderr}`);
      }
    }
  }
}
