/*
 * The system calls that read the mount table fail, or a mount does, at each point of a zone's
 * life on a platform that leaves the mount to us: as soon as that is over the directory is where it should be,
 * without another event of the zone, a reboot or a restart.
 */
import assert from 'node:assert';
import { rmSync, symlinkSync, utimesSync } from 'node:fs';
import { isJsonObject } from '../../src/metadata/vm-data';
import { askJson } from '../support/admin';
import { eventually } from '../support/eventually';
import { FailingCalls, whyNoFailingCalls, type Call, type Errno } from '../support/failing-calls';
import { AgentProcess } from '../support/guest-agent';
import { describeWhere, whyNotRoot } from '../support/pending';
import { osZone, uuidOf } from '../support/simulated-node';
import { SimNode, whyNoNode } from '../support/simcn';

/** Long enough for a test to do something before the zone boots. */
const READY_MS = 600;
const READS: readonly Call[] = ['stat', 'open', 'read'];
const ERRNOS: readonly Errno[] = ['EMFILE', 'ENOMEM', 'EACCES'];
/** The first try again is made after 100 ms. */
const SOON_MS = 3000;

const missing = whyNoFailingCalls() ?? whyNotRoot() ?? whyNoNode();
describeWhere(missing, 'a failing system call of a mount', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let node: SimNode;
  let agent: AgentProcess;
  let index = 0;

  before(async () => {
    calls = new FailingCalls();
    const flags = ['--old-platform', '--ready-ms', String(READY_MS)];
    node = await SimNode.start({ flags, vms: [osZone(0)] });
    agent = await AgentProcess.start(node.root, [], calls.prefix);
  });

  beforeEach(() => {
    index++;
  });

  afterEach(() => calls.clear());

  after(async () => {
    await agent.stop();
    await node.stop();
    calls.remove();
  });

  const isMounted = (): boolean => node.mounts().some((path) => path.includes(uuidOf(index)));

  /** Whether the log says so of the zone. */
  function reported(what: string, errno: Errno): boolean {
    const words = `could not ${what} the metadata directory`;
    return agent.records.some(({ zonename, msg, err }) => {
      return zonename === uuidOf(index) && msg === words && JSON.stringify(err).includes(errno);
    });
  }

  /** The agent is through with it: it has seen it in the table too. */
  async function mountedByAgent(): Promise<void> {
    const done = (): boolean => {
      return agent.records.some(({ zonename, msg }) => {
        return zonename === uuidOf(index) && msg === 'mounted the metadata directory';
      });
    };
    await eventually(done, 'mounted');
    assert(isMounted());
  }

  /** Starts to take the zone to that state. */
  function create(zone_state: string): Promise<string> {
    return node.ok(['create'], JSON.stringify(osZone(index, { zone_state })));
  }

  async function destroy(): Promise<void> {
    await node.ok(['destroy', uuidOf(index)]);
    index++;
  }

  /** The table is new to the agent, so that it is read and not only looked at. */
  function failChecks(call: Call, errno: Errno): () => number {
    const hits = calls.fail(call, errno, '/etc/mnttab$');
    const now = new Date();
    utimesSync(node.path('/etc/mnttab'), now, now);
    return hits;
  }

  async function mountSaid(): Promise<unknown> {
    const report = await askJson(node.root, `/zones/${uuidOf(index)}`);
    return isJsonObject(report) ? report.mount : undefined;
  }

  for (const call of READS) {
    it(`delays the mount into a ready zone while ${call} of the mount table fails`, async () => {
      for (const errno of ERRNOS) {
        const hits = failChecks(call, errno);
        await create('ready');
        await eventually(() => reported('mount', errno), `a record of ${errno}`);
        assert(hits() > 0 && !isMounted());
        calls.clear();
        await eventually(isMounted, `mounted after ${errno}`, SOON_MS);
        await eventually(async () => (await mountSaid()) === 'mounted by the agent');
        await destroy();
      }
    });

    it(`corrects the status of a running zone after ${call} of the mount table failed`, async () => {
      for (const errno of ERRNOS) {
        const booted = create('running');
        await mountedByAgent();
        failChecks(call, errno);
        await booted;
        await eventually(() => reported('verify', errno), `a record of ${errno}`);
        assert.strictEqual(await mountSaid(), 'not known');
        calls.clear();
        const right = async (): Promise<boolean> => (await mountSaid()) === 'mounted by the agent';
        await eventually(right, `seen after ${errno}`, SOON_MS);
        await destroy();
      }
    });
  }

  it('logs a zone that booted without its mount, and mounts at the next boot', async () => {
    await create('installed');
    // What the zone's own root can put there.
    const link = node.path(`/zones/${uuidOf(index)}/root/.zonecontrol`);
    rmSync(link, { recursive: true, force: true });
    symlinkSync('/etc', link);
    await node.ok(['boot', uuidOf(index)]);
    const warned = 'zone runs without its metadata directory: reboot it';
    await eventually(() => agent.records.some(({ msg }) => msg === warned), 'a warning');
    assert(reported('mount', 'ELOOP') && !isMounted());
    rmSync(link);
    await node.ok(['reboot', uuidOf(index)]);
    await eventually(isMounted, 'mounted');
    await destroy();
  });

  it('mounts once when the table could not be read, and finds the mount later', async () => {
    // The first read sees nothing there; the mount itself makes the table another.
    const hits = calls.fail('open', 'EMFILE', '/etc/mnttab$');
    await create('ready');
    await eventually(() => hits() > 1 && reported('mount', 'EMFILE'), 'a record');
    calls.clear();
    await eventually(isMounted, 'mounted', SOON_MS);
    const ours = node.mounts().filter((path) => path.includes(uuidOf(index)));
    assert.strictEqual(ours.length, 1);
    await destroy();
  });
});
