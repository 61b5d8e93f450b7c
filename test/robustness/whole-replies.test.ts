/*
 * Replies as the platform's own client needs them: it waits for the first octet alone, and takes the first
 * pause within a reply for its end.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { bestOf } from '../support/best-of';
import { eventually } from '../support/eventually';
import { frame } from '../support/frames';
import { within } from '../support/guest-session';
import { osZone, PlayedNode } from '../support/played-node';

const MOST_GAP_MS = 100;

describe('the platform\u2019s own client, which waits for the first octet of a reply alone', function () {
  this.timeout(120_000);
  let played: PlayedNode;

  before(async function () {
    const sizes = Array.from({ length: 21 }, (_, power) => 2 ** power);
    const values = Object.fromEntries(sizes.map((size) => [`v${size}`, 's'.repeat(size)]));
    const vms = [0, 1, 2, 3, 4, 5].map((index) => osZone(index, { customer_metadata: values }));
    played = await PlayedNode.start(this, { vms });
  });

  after(() => played.stop());

  it('gets every value from 1 B to 1 MiB without a gap, while others keep the agent busy', async () => {
    const life = { over: false };
    const busy = [1, 2, 3, 4, 5].map(async (index) => {
      const session = await played.open(index);
      while (!life.over) {
        await session.get(`v${2 ** (index + 12)}`);
        await delay(1);
      }
      session.close();
    });
    try {
      for (let power = 0; power <= 20; power++) {
        // The client has no patience at all; a test has what its own scheduler costs it.
        const gap = await bestOf(MOST_GAP_MS, () => {
          return longestGap(played.socket(0), `v${2 ** power}`, 2 ** power);
        });
        assert(gap < MOST_GAP_MS, `${gap} ms in a reply of ${2 ** power} B`);
      }
    } finally {
      life.over = true;
      await Promise.all(busy);
    }
  });

  it('gets a reply that fits into the socket\u2019s buffer in one read', async () => {
    for (const power of [0, 8, 12, 15]) {
      const socket = connect(played.socket(0));
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
  assert(bytes > length, `${bytes} octets`);
  socket.destroy();
  return longest;
}
