/*
 * Guests that wait, in a process of their own, whose descriptors and time are not the test's: on each socket so many
 * connections, each of which asks one thing at a time (waiting-guests.ts forks it).
 *
 *   waiting-child CONNECTIONS KEY <SOCKETS
 *
 * Says `ready` when all are connected. At the word `get` all ask for the key, and at `watch` for its token; at `wait`
 * they wait until it is another. When all are answered it says how long that took, ms.
 */
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { base64 } from './frames';
import { GuestSession } from './guest-session';

const SECONDS = 300;
/** Connected at once: the backlog of a socket has room for them. */
const BATCH = 64;

interface Guest {
  readonly session: GuestSession;
  token: string;
}

async function main(count: number, name: string): Promise<void> {
  const paths = readFileSync(0, 'utf8').trimEnd().split('\n');
  const guests: Guest[] = [];
  const key = base64(Buffer.from(name));
  const asks: Readonly<Record<string, (guest: Guest) => Promise<void>>> = {
    get: async ({ session }) => {
      assert.strictEqual((await session.get(name)).code, 'SUCCESS');
    },
    watch: async (guest) => {
      guest.token = (await guest.session.ask('WATCH', `${SECONDS} - ${key}`)).text;
    },
    wait: async (guest) => {
      const { session, token } = guest;
      const { text } = await session.ask('WATCH', `${SECONDS} ${token} ${key}`, 1000 * SECONDS);
      assert.notStrictEqual(text, token, 'a change was told');
    },
  };
  process.once('disconnect', () => process.exit(0));
  process.on('message', (word) => {
    const ask = asks[String(word)];
    assert(ask !== undefined, String(word));
    const began = performance.now();
    void Promise.all(guests.map(ask)).then(() => process.send?.(performance.now() - began));
  });
  for (const path of paths) {
    for (let left = count; left > 0; left -= BATCH) {
      const batch = Array.from({ length: Math.min(left, BATCH) }, () => GuestSession.open(path));
      guests.push(...(await Promise.all(batch)).map((session) => ({ session, token: '-' })));
    }
  }
  process.send?.('ready');
}

void main(Number(process.argv[2]), process.argv[3] ?? '');
