/*
 * Replies as the platform's own client needs them: it waits for the first byte alone, and takes the first
 * pause within a reply for its end.
 */
import assert from 'node:assert';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { bestMs } from '../support/best-of';
import { eventually } from '../support/eventually';
import { frame, putFrame, readFrame } from '../support/frames';
import { within } from '../support/guest-session';
import { HostileGuests } from '../support/hostile-guests';
import { osZone, SimulatedNode } from '../support/simulated-node';

const MOST_GAP_MS = 100;
const CLIENT_SOURCE = resolve(__dirname, '../../../test/support/impatient-client.c');
const SIZES = [200_000, 1024 * 1024];
/** A million reads and polls are a second. */
const ASKED = '2';
/** Zones that keep the agent busy. */
const LOADING = Array.from({ length: 50 }, (_, n) => 10 + n);

describe('the platform\u2019s own client, which waits for the first byte of a reply alone', function () {
  this.timeout(120_000);
  const directory = mkdtempSync(join(tmpdir(), 'wr-'));
  const client = join(directory, 'client');
  let cn: SimulatedNode;

  before(async function () {
    const sizes = Array.from({ length: 21 }, (_, power) => 2 ** power);
    const values: Record<string, string> = Object.fromEntries(
      sizes.map((size) => [`v${size}`, 's'.repeat(size)]),
    );
    for (const size of SIZES) {
      values[`big${size}`] = 's'.repeat(size);
    }
    const built = spawnSync('cc', ['-O2', '-o', client, CLIENT_SOURCE], { encoding: 'utf8' });
    assert.strictEqual(built.status, 0, built.stderr);
    const vms = [0, 1, 2, 3, 4, 5].map((index) => osZone(index, { customer_metadata: values }));
    const loading = LOADING.map((index) => osZone(index, { customer_metadata: { v64: 's' } }));
    // As many writes as they like: what they cost the others is what is looked at.
    const config = { limits: { writes_per_second: 10_000, write_burst: 10_000 } };
    cn = await SimulatedNode.start(this, { vms: [...vms, ...loading], config });
  });

  after(async () => {
    await cn.stop();
    rmSync(directory, { recursive: true });
  });

  it('gets every value from 1 B to 1 MiB without a gap, while others keep the agent busy', async () => {
    const life = { over: false };
    const busy = [1, 2, 3, 4, 5].map(async (index) => {
      const session = await cn.open(index);
      while (!life.over) {
        await session.get(`v${2 ** (index + 12)}`);
        await delay(1);
      }
      session.close();
    });
    try {
      for (let power = 0; power <= 20; power++) {
        // The client has no patience at all; a test has what its own scheduler costs it.
        const gap = await bestMs(MOST_GAP_MS, () => {
          return longestGap(cn.socket(0), `v${2 ** power}`, 2 ** power);
        });
        assert(gap < MOST_GAP_MS, `${gap} ms in a reply of ${2 ** power} B`);
      }
    } finally {
      life.over = true;
      await Promise.all(busy);
    }
  });

  it('has all of a large reply once it has a byte of it, though the agent does nothing more', async () => {
    for (const size of SIZES) {
      const socket = connect(cn.socket(0));
      await once(socket, 'connect');
      const chunks: Buffer[] = [];
      socket.once('data', () => process.kill(cn.agent.pid, 'SIGSTOP'));
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.write(frame('00000001', 'GET', `big${size}`));
      try {
        await eventually(() => chunks.at(-1)?.at(-1) === 0x0a, `all of ${size} B`);
      } finally {
        process.kill(cn.agent.pid, 'SIGCONT');
      }
      const reply = readFrame(Buffer.concat(chunks).toString('latin1'));
      assert.strictEqual(reply.payload.length, size);
      socket.destroy();
    }
  });

  it('gets every byte of a large value without a pause, while 50 zones ask and write', async () => {
    const requests = [0, 1, 2, 3].map((n) => frame(`0000000${n}`, 'GET', 'v64'));
    const put = putFrame('00000004', 'status', 'up');
    const paths = LOADING.map((index) => cn.socket(index));
    const load = await HostileGuests.start({
      ...{ paths, requests: [...requests, put], connections: 1, mode: 'reads', startMs: 20_000 },
    });
    try {
      for (const size of SIZES) {
        const { stdout, status } = await impatient(frame('00000001', 'GET', `big${size}`));
        assert.strictEqual(status, 0, stdout);
        assert.strictEqual(stdout, '0\n', `pauses in replies of ${size} B, then their number`);
      }
    } finally {
      await load.stop();
    }
  });

  /** Asks some times as that client does; ends with its status and what it printed. */
  async function impatient(request: Buffer): Promise<{ stdout: string; status: unknown }> {
    const child = spawn(client, [cn.socket(0), ASKED], { stdio: ['pipe', 'pipe', 'inherit'] });
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stdin.end(request);
    const [status] = (await once(child, 'close')) as [unknown];
    return { stdout, status };
  }

  it('gets a reply that fits into the socket\u2019s buffer in one read', async () => {
    for (const power of [0, 8, 12, 15]) {
      const socket = connect(cn.socket(0));
      await once(socket, 'connect');
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.write(frame('00000001', 'GET', `v${2 ** power}`));
      await eventually(() => chunks.at(-1)?.at(-1) === 0x0a, 'the whole reply');
      assert.strictEqual(chunks.length, 1, `${2 ** power} B came in ${chunks.length} pieces`);
      socket.destroy();
    }
  });
});

/** The longest time between two pieces of one reply, ms. */
async function longestGap(path: string, key: string, length: number): Promise<number> {
  const socket = connect(path);
  await once(socket, 'connect');
  let last = 0;
  let longest = 0;
  let bytes = 0;
  const whole = new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      longest = last === 0 ? 0 : Math.max(longest, performance.now() - last);
      last = performance.now();
      bytes += chunk.length;
      if (chunk.at(-1) === 0x0a) {
        resolve();
      }
    });
  });
  socket.write(frame('00000001', 'GET', key));
  await within(whole, 20_000, `the reply to ${key}`);
  assert(bytes > length, `${bytes} bytes`);
  socket.destroy();
  return longest;
}
