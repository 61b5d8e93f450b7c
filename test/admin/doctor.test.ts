/*
 * Things broken one by one on a simulated node with a real agent: the doctor names each, and what to do.
 */
import assert from 'node:assert';
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { run } from '../../src/platform/exec';
import type { DoctorReport } from '../../src/admin/doctor';
import type { Step, Verdict } from '../../src/admin/doctor-context';
import type { Status } from '../../src/admin/status';
import { askJson } from '../support/admin';
import { eventually } from '../support/eventually';
import { AgentProcess } from '../support/guest-agent';
import { FailingCalls, whyNoFailingCalls } from '../support/failing-calls';
import { describeWhere, needs, needsRoot } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';

const OS_ZONE = zonenameOf(1);
const HVM_ZONE = zonenameOf(2);
const VMS = [
  vmObject(OS_ZONE, { alias: 'web0', customer_metadata: { key: 'value' } }),
  vmObject(HVM_ZONE, { alias: 'hvm0', brand: 'bhyve' }),
];

describe('the doctor', function () {
  this.timeout(60_000);
  const ends: (() => Promise<void>)[] = [];
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: VMS });
    ends.push(() => node.stop());
    const agent = await AgentProcess.start(node.root);
    ends.unshift(() => agent.stop());
    await eventually(
      async () => (await runDoctor(HVM_ZONE)).verdict === 'ok',
      'all is well at first',
    );
  });

  after(async () => {
    for (const end of ends) {
      await end();
    }
  });

  afterEach(async () => {
    await node.ok(['fault', '--clear']);
  });

  async function runDoctor(zonename?: string): Promise<DoctorReport> {
    const path = zonename === undefined ? '/doctor' : `/doctor/${zonename}`;
    return (await askJson(node.root, path)) as DoctorReport;
  }

  async function status(): Promise<Status> {
    return (await askJson(node.root, '/status')) as Status;
  }

  /** The step of the zone once it has this verdict. */
  async function stepOf(zonename: string, name: string, verdict: Verdict): Promise<Step> {
    let found: Step | undefined;
    await eventually(async () => {
      found = (await runDoctor(zonename)).zones[0]?.steps.find(({ step }) => step === name);
      return found?.verdict === verdict;
    }, `${name}: ${verdict}`);
    assert(found !== undefined);
    return found;
  }

  /**
   * The failed step right after something was broken that the agent mends by itself within a second: on
   * a busy machine the check can come too late, then it is broken again.
   */
  async function seenWhile(
    name: string,
    breakIt: () => Promise<() => Promise<unknown>>,
  ): Promise<Step> {
    for (let attempt = 0; attempt < 5; attempt++) {
      const undo = await breakIt();
      const step = (await runDoctor(OS_ZONE)).zones[0]?.steps.find((each) => each.step === name);
      await undo();
      if (step?.verdict === 'fail') {
        return step;
      }
    }
    throw new Error(`${name} was never seen to fail`);
  }

  it('finds no problem on a healthy node', async function () {
    // Without a mount something is wrong.
    needsRoot(this);
    const report = await runDoctor();
    const bad = [...report.node, ...report.zones.flatMap(({ steps }) => steps)].filter(
      ({ verdict }) => verdict === 'warn' || verdict === 'fail',
    );
    assert.deepStrictEqual(bad, []);
    assert.strictEqual(report.verdict, 'ok');
    const names = report.zones.find(({ zonename }) => zonename === OS_ZONE)?.steps ?? [];
    assert.deepStrictEqual(
      names.map(({ step }) => step),
      [
        ...['zone', 'directory', 'socket', 'listener', 'mount', 'round trip', 'VM data'],
        ...['metadata.json', 'tags.json', 'routes.json', 'namespaces', 'config lock', 'disk'],
        'metadata limits',
      ],
    );
  });

  it('reports a socket that another program replaced, until the agent has bound it again', async () => {
    const path = node.path(`/var/zonecontrol/${OS_ZONE}/metadata.sock`);
    const other = createServer((socket) => socket.destroy());
    const found = await seenWhile('socket', async () => {
      other.listen(`${path}.other`);
      await once(other, 'listening');
      renameSync(`${path}.other`, path);
      return () => new Promise((done) => other.close(done));
    });
    assert.match(found.finding, /is another's: \(dev, ino\) is \(\d+, \d+\), ours is \(/);
    assert.match(found.remedy, /another agent/);
    await stepOf(OS_ZONE, 'socket', 'ok');
    await stepOf(OS_ZONE, 'round trip', 'ok');
  });

  it('reports a removed socket, and that it is back', async () => {
    const path = node.path(`/var/zonecontrol/${OS_ZONE}/metadata.sock`);
    const found = await seenWhile('socket', () => {
      rmSync(path, { force: true });
      return Promise.resolve(() => Promise.resolve());
    });
    assert.match(found.finding, /metadata\.sock: is not there/);
    assert.match(found.remedy, /mdatad makes it again within 2 s/);
    await stepOf(OS_ZONE, 'round trip', 'ok');
  });

  it('reports wrong permissions and the command that repairs them', async () => {
    const path = node.path(`/var/zonecontrol/${OS_ZONE}/metadata.sock`);
    chmodSync(path, 0o666);
    const { finding, remedy } = await stepOf(OS_ZONE, 'socket', 'warn');
    assert.match(finding, /0666, not 0600/);
    assert.strictEqual(remedy, `chmod 0600 ${path}`);
    chmodSync(path, 0o600);
    await stepOf(OS_ZONE, 'socket', 'ok');
  });

  it('reports a directory that was unmounted under a running zone; so do status and the log', async function () {
    needsRoot(this);
    const mountPoint = node.path(`/zones/${OS_ZONE}/root/.zonecontrol`);
    await run(['umount', mountPoint]);
    const { finding, remedy } = await stepOf(OS_ZONE, 'mount', 'fail');
    // By the mount table, where that shows it already.
    assert.match(finding, /unmounted, or replaced while the zone runs|nothing is mounted at/);
    assert.match(remedy, new RegExp(`vmadm reboot ${OS_ZONE}`));
    await eventually(async () => {
      const { problems } = (await status()).health;
      return problems.some(({ reason }) => reason === 'mount-replaced');
    }, 'status names it');
    const warning = '"msg":"the metadata directory was unmounted, or replaced while the zone runs';
    await eventually(async () => {
      await runDoctor(OS_ZONE);
      return JSON.stringify(await askJson(node.root, `/zones/${OS_ZONE}`)).includes(warning);
    }, 'a record of it');
    await node.ok(['reboot', OS_ZONE]);
    await stepOf(OS_ZONE, 'mount', 'ok');
  });

  it('reports a frozen vminfod by the change that it does not show', async () => {
    await node.ok(['fault', 'vminfod.freeze', '--zone', OS_ZONE]);
    const path = node.path(`/zones/${OS_ZONE}/config/metadata.json`);
    const metadata = { customer_metadata: { key: 'other' }, internal_metadata: {} };
    writeFileSync(`${path}.new`, JSON.stringify(metadata));
    renameSync(`${path}.new`, path);
    const { finding, remedy } = await stepOf(OS_ZONE, 'VM data', 'warn');
    assert.match(finding, /does not show what the config files hold/);
    assert.match(remedy, /svcadm restart vminfod/);
    await node.ok(['fault', '--clear']);
    await stepOf(OS_ZONE, 'VM data', 'ok');
  });

  it('reports how long vminfod has been down; zones stay healthy meanwhile', async function () {
    needsRoot(this);
    await node.ok(['fault', 'vminfod.down']);
    await eventually(
      async () => (await runDoctor(OS_ZONE)).verdict === 'fail',
      'a fault of the node',
    );
    const report = await runDoctor(OS_ZONE);
    const step = report.node.find((each) => each.step === 'vminfod');
    assert.match(step?.finding ?? '', /has been down for .*serving what was last known of 2 VMs/);
    assert.strictEqual(report.zones[0]?.verdict, 'ok');
    assert.match((await status()).vminfod.words, /has been down for/);
    await node.ok(['fault', '--clear']);
    await eventually(async () => (await runDoctor(OS_ZONE)).verdict === 'ok', 'well again');
  });

  it('reports a full disk and its zone', async function () {
    needsRoot(this);
    await node.ok(['fault', 'disk.full', '--zone', OS_ZONE]);
    const { finding, remedy } = await stepOf(OS_ZONE, 'disk', 'fail');
    assert.match(finding, /0 B free in .*config: writes of the guest fail/);
    assert.match(remedy, /quota/);
    await node.exec(OS_ZONE, 'mdata-put', 'key', 'value');
    await eventually(async () => {
      const { health, warnings } = await status();
      return (
        health.problems.some(({ reason }) => reason === 'disk-full') &&
        warnings.some(({ text }) => /could not update metadata.*ENOSPC/.test(text))
      );
    }, 'status names it');
    await node.ok(['fault', '--clear']);
    await stepOf(OS_ZONE, 'disk', 'ok');
  });

  it('reports which process holds the configuration lock, and the write that waits for it', async function () {
    needsRoot(this);
    await node.ok(['fault', 'lock.held', '--zone', OS_ZONE]);
    const put = node.exec(OS_ZONE, 'mdata-put', 'key', 'value');
    await eventually(async () => (await status()).writes.inProgress.length === 1, 'a write waits');
    const { finding } = await stepOf(OS_ZONE, 'config lock', 'warn');
    assert.match(finding, new RegExp(`held by pid ${node.pid} \\(`));
    assert.match(finding, /a write of the guest has waited for it for/);
    assert.strictEqual((await status()).writes.inProgress[0]?.stage, 'locking');
    await node.ok(['fault', '--clear']);
    assert.strictEqual((await put).status, 0);
    await stepOf(OS_ZONE, 'config lock', 'ok');
  });

  it('does not drop a lock that the agent itself holds', async function () {
    needsRoot(this);
    // vminfod does not confirm it, so the agent keeps the lock for 2 s.
    await node.ok(['fault', 'vminfod.freeze', '--zone', OS_ZONE]);
    const { status: code } = await node.exec(OS_ZONE, 'mdata-put', 'frozen', 'yes');
    assert.strictEqual(code, 0);
    if ((await status()).writes.locksHeld === 1) {
      const { finding } = await stepOf(OS_ZONE, 'config lock', 'ok');
      assert.match(finding, /held by a write of the agent itself|free/);
    }
    await eventually(async () => (await status()).writes.locksHeld === 0, 'the lock is released');
  });

  it('reports a config file that is not JSON', async () => {
    const path = node.path(`/zones/${OS_ZONE}/config/tags.json`);
    writeFileSync(path, '{ broken');
    const { finding } = await stepOf(OS_ZONE, 'tags.json', 'fail');
    assert.match(
      finding,
      /cannot be used: no JSON object: until it is repaired, guests see none of it$/,
    );
    writeFileSync(path, '{}');
    await stepOf(OS_ZONE, 'tags.json', 'ok');
    const metadata = node.path(`/zones/${OS_ZONE}/config/metadata.json`);
    const before = readFileSync(metadata);
    writeFileSync(metadata, '{"customer_metadata":["a"],"internal_metadata":{}}');
    const inside = await stepOf(OS_ZONE, 'metadata.json', 'fail');
    assert.match(
      inside.finding,
      /cannot be used: no JSON object in customer_metadata: until .* guests see none of it$/,
    );
    writeFileSync(metadata, before);
    await stepOf(OS_ZONE, 'metadata.json', 'ok');
  });

  it('distinguishes a damaged metadata file from a blank one, and shows how much of the limits is used', async () => {
    const path = node.path(`/zones/${OS_ZONE}/config/metadata.json`);
    const before = readFileSync(path);
    writeFileSync(path, '{"customer_metadata":{"a":"1"');
    const damaged = await stepOf(OS_ZONE, 'metadata.json', 'fail');
    assert.match(damaged.finding, /cannot be used: no JSON object: .* can write nothing/);
    writeFileSync(path, '  ');
    const blank = await stepOf(OS_ZONE, 'metadata.json', 'warn');
    assert.match(blank.finding, /is blank: the next write of the guest makes it again/);
    const long = { customer_metadata: { a: 'x'.repeat(3.6 * 1024 * 1024) }, internal_metadata: {} };
    writeFileSync(path, JSON.stringify(long));
    const full = await stepOf(OS_ZONE, 'metadata limits', 'warn');
    assert.match(full.finding, /3\.6 MiB of 4(\.0)? MiB \(9\d %\), 1 of 1024 keys/);
    assert.match(full.remedy, /raise limits\.metadata_bytes in the configuration/);
    const zone = JSON.stringify(await askJson(node.root, `/zones/${OS_ZONE}`));
    assert.match(zone, /"metadata":\{"bytes":37\d+,"bytesMax":4194304,"keys":1,"keysMax":1024/);
    writeFileSync(path, before);
    await stepOf(OS_ZONE, 'metadata limits', 'ok');
  });

  it('reports a lost namespace, and the update that restores it', async () => {
    const path = node.path(`/zones/${OS_ZONE}/config/metadata.json`);
    const internal = { internal_metadata: { 'lost:key': 'value' } };
    writeFileSync(`${path}.new`, JSON.stringify({ customer_metadata: {}, ...internal }));
    renameSync(`${path}.new`, path);
    const { finding, remedy } = await stepOf(OS_ZONE, 'namespaces', 'warn');
    assert.match(finding, /keys of lost,/);
    assert.match(remedy, /vmadm update .*"internal_metadata_namespaces":\["lost"\]/);
  });

  it('reports a serial port that another program holds', async () => {
    await node.ok(['fault', 'ttyb.held', '--zone', HVM_ZONE]);
    let remedy = '';
    await eventually(async () => {
      const step = await stepOf(HVM_ZONE, 'link', 'fail');
      remedy = step.remedy;
      return step.finding.startsWith('another program holds the port');
    }, 'the port is held');
    assert.match(remedy, /svcadm disable svc:\/system\/smartdc\/metadata:default/);
    await node.ok(['fault', '--clear']);
    await stepOf(HVM_ZONE, 'link', 'ok');
  });

  it('reports a zone that does not exist', async () => {
    const report = await runDoctor(zonenameOf(99));
    assert.strictEqual(report.verdict, 'fail');
    assert.strictEqual(report.zones[0]?.steps[0]?.finding, 'no such zone on this node');
  });
});

describeWhere(
  whyNoFailingCalls(),
  'the doctor of a zone whose metadata cannot be read',
  function () {
    this.timeout(60_000);

    it('names the file and the error, and makes all other steps', async function () {
      needs(this, whyNoNode());
      const calls = new FailingCalls();
      calls.fail('open', 'EIO', `${OS_ZONE}/config/metadata.json$`);
      const node = await SimNode.start({ vms: VMS });
      const agent = await AgentProcess.start(node.root, [], calls.prefix);
      try {
        let steps: readonly Step[] = [];
        await eventually(async () => {
          const report = (await askJson(node.root, `/doctor/${OS_ZONE}`)) as DoctorReport;
          steps = report.zones[0]?.steps ?? [];
          return steps.find(({ step }) => step === 'VM data')?.verdict === 'ok';
        }, 'its VM data is known');
        assert.match(steps.find(({ step }) => step === 'metadata.json')?.finding ?? '', /EIO/);
        assert.deepStrictEqual(
          steps.map(({ step }) => step).filter((step) => /doctor|disk|limits/.test(step)),
          ['disk', 'metadata limits'],
        );
      } finally {
        await agent.stop();
        await node.stop();
        calls.remove();
      }
    });
  },
);
