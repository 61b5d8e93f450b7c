/*
 * The real cloud-init on a terminal that is bridged to a simulated guest's port, while the agent is killed,
 * stopped, late or short of facts between any two of its requests.
 *
 * cloud-init asks every key once and takes any answer without a value for an absent key. So what must
 * never come about is a data source that looks well and lacks something. Where a request was lost,
 * with the process that it was sent to, cloud-init must fail aloud, and get all the next time.
 */
import assert from 'node:assert';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { eventually } from '../support/eventually';
import { AgentProcess } from '../support/guest-agent';
import { startCloudInit, whyNoCloudInit, type CloudInitRun } from '../support/guest-cloud-init';
import { portConnections } from '../support/guest-port';
import { GuestTerminal, type BeforeLine } from '../support/guest-terminal';
import { assertComplete, guestVm } from '../support/guest-vm';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';
import { tempDir, type TempDir } from '../support/temp-dir';
import { zonenameOf } from '../support/vm-objects';

/** The reset, NEGOTIATE, KEYS and 16 GETs: cloud-init's part of a session. */
const SESSION_LINES = 19;
/** A zone for each of them, of both kinds. */
const ZONES = Array.from({ length: SESSION_LINES }, (_, i) => zonenameOf(i));
const brandOf = (index: number) => (index % 2 === 0 ? 'bhyve' : 'kvm');

/** cloud-init's own patience with a byte: longer than anything here takes. */
const TIMEOUT_S = 60;
/** For requests that are lost: long enough to gather all clients, short enough to wait for. */
const SHORT_S = 12;
/** Until python runs and has asked so much, for all clients together, on a busy machine. */
const GATHER_MS = 60_000;
const RECONNECT_MS = 1000;

interface Client {
  readonly index: number;
  readonly uuid: string;
  readonly terminal: GuestTerminal;
  readonly run: CloudInitRun;
}

describe('cloud-init on a serial port', function () {
  this.timeout(120_000);
  let directory: TempDir;
  let node: SimNode;
  let agent: AgentProcess | undefined;
  let clients: Client[] = [];

  before(async function () {
    needs(this, (await whyNoCloudInit()) ?? whyNoNode());
    directory = tempDir();
    node = await SimNode.start({ vms: ZONES.map((uuid, i) => guestVm(uuid, brandOf(i))) });
  });

  afterEach(async () => {
    for (const { run, terminal } of clients) {
      await run.end();
      await terminal.close();
    }
    clients = [];
    await agent?.kill();
    agent = undefined;
    await node.ok(['fault', '--clear']);
  });

  after(async () => {
    await (node as SimNode | undefined)?.stop();
    (directory as TempDir | undefined)?.remove();
    // A child's handle closes a moment after its exit.
    const children = () => process.getActiveResourcesInfo().includes('ProcessWrap');
    await eventually(() => !children(), 'the end of all processes');
  });

  async function client(
    index: number,
    timeoutS = TIMEOUT_S,
    beforeLine?: BeforeLine,
  ): Promise<Client> {
    const uuid = ZONES[index] ?? '';
    const terminal = await GuestTerminal.open(node.path(`/zones/${uuid}/ttyb`), beforeLine);
    const own = join(directory.path, uuid);
    mkdirSync(own, { recursive: true });
    const run = startCloudInit([
      ...['--environment', 'kvm', '--directory', own],
      ...['--serial-device', terminal.path, '--serial-timeout', String(timeoutS)],
    ]);
    const made = { index, uuid, terminal, run };
    clients.push(made);
    return made;
  }

  /** @returns how many attempts failed aloud, of all clients together */
  async function completed(): Promise<number> {
    const counts = clients.map(async ({ uuid, run }) => assertComplete(await run.attempts, uuid));
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  }

  function connected(): boolean {
    return ZONES.every((uuid) => portConnections(node.path(`/zones/${uuid}/root`)).length === 1);
  }

  /**
   * Starts a client in each zone and has each stop before another line of its session: zone 0 before
   * the first, zone 1 before the second... Resolves when all are there, with what lets them go on.
   */
  async function gather(timeoutS: number): Promise<() => void> {
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    const there = new Set<number>();
    const start = (index: number) =>
      client(index, timeoutS, async (line) => {
        if (line === index) {
          there.add(index);
          await released;
        }
      });
    // The first one last: it repeats its reset every 5 s.
    const [, ...rest] = ZONES.keys();
    for (const index of rest) {
      await start(index);
    }
    await eventually(() => there.size === rest.length, 'all clients at their lines', GATHER_MS);
    await start(0);
    await eventually(() => there.size === ZONES.length, 'the first client', GATHER_MS);
    return release;
  }

  it('gets complete data, in one session', async () => {
    agent = await AgentProcess.start(node.root);
    const both = [await client(0), await client(1)];
    assert.strictEqual(await completed(), 0);
    for (const { terminal } of both) {
      assert.strictEqual(terminal.lines, SESSION_LINES);
    }
  });

  for (const { end, how } of [
    { end: 'kill', how: 'killed' },
    { end: 'stop', how: 'stopped' },
  ] as const) {
    it(`misses nothing when the agent is ${how} and started again between any two requests`, async () => {
      agent = await AgentProcess.start(node.root);
      const release = await gather(TIMEOUT_S);
      await agent[end]();
      agent = await AgentProcess.start(node.root);
      await eventually(connected, 'connection of all ports', RECONNECT_MS);
      release();
      assert.strictEqual(await completed(), 0);
    });
  }

  it('never loses a key in silence when the agent is killed right before a request', async () => {
    agent = await AgentProcess.start(node.root);
    const release = await gather(SHORT_S);
    await agent.kill();
    release();
    const sent = () => clients.every(({ index, terminal }) => terminal.lines > index);
    await eventually(sent, 'all requests sent');
    agent = await AgentProcess.start(node.root);
    // Every request was lost. The reset is the only one that cloud-init sends again by itself.
    assert.strictEqual(await completed(), ZONES.length - 1);
  });

  it('never loses a key in silence when the agent is killed in the middle of its answers', async () => {
    agent = await AgentProcess.start(node.root);
    const release = await gather(SHORT_S);
    release();
    const answered = () => clients.some(({ index, terminal }) => terminal.lines > index + 1);
    await eventually(answered, 'the first answer');
    await agent.kill();
    agent = await AgentProcess.start(node.root);
    await completed();
  });

  it('waits for an agent that comes late', async () => {
    const both = [await client(0), await client(1)];
    // The first reset of each was lost for want of a host, and another one was sent.
    await eventually(() => both.every(({ terminal }) => terminal.lines >= 2), 'resets', GATHER_MS);
    agent = await AgentProcess.start(node.root);
    assert.strictEqual(await completed(), 0);
  });

  it('is not answered before its data is there: a slow vminfod', async () => {
    await node.ok(['fault', 'vminfod.delay=4000']);
    await Promise.all([client(0), client(1)]);
    agent = await AgentProcess.start(node.root);
    assert.strictEqual(await completed(), 0);
  });

  it('is not answered before its data is there: a vminfod that is down', async () => {
    await node.ok(['fault', 'vminfod.down']);
    const both = [await client(0), await client(1)];
    agent = await AgentProcess.start(node.root);
    await eventually(() => both.every(({ terminal }) => terminal.lines >= 2), 'resets', GATHER_MS);
    await node.ok(['fault', '--clear']);
    assert.strictEqual(await completed(), 0);
  });
});
