/*
 * What the addon's sockets refuse, asked without src/platform/sockets.ts, which never asks for it.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAddon } from '../../src/platform/addon';
import { eventually } from '../support/eventually';

// As in native/sockets.h.
const INTS = 4;
const ACCEPTED = 1;
const ENDED = 4;
const CLOSE = 5;

/** What one connection may bring in one batch. */
const READ_BYTES = 65_536;
/** So many kinds of events one of them can have. */
const KINDS = 6;
const IDS = 4;
/** The first length that an int32 cannot say. */
const TOO_LONG = 2 ** 31;

function open(deliver: (count: number) => void, memory: { kinds?: number; inbox?: number } = {}) {
  const events = new Int32Array((memory.kinds ?? KINDS) * INTS);
  const commands = new Int32Array(IDS * INTS);
  const inbox = Buffer.alloc(memory.inbox ?? READ_BYTES);
  const outbox = Buffer.alloc(1);
  const buffered = new Uint32Array(IDS);
  const handle = loadAddon().openSockets(deliver, events, inbox, commands, outbox, buffered);
  return { events, commands, handle };
}

describe("the addon's sockets", () => {
  it('refuse memory that the events or bytes of one connection do not fit into', () => {
    const refused = { code: 'EINVAL' };
    assert.throws(() => open(() => undefined, { kinds: KINDS - 1 }), refused);
    assert.throws(() => open(() => undefined, { inbox: READ_BYTES - 1 }), refused);
  });

  it('end a connection that is to write more than a length can say', async () => {
    const addon = loadAddon();
    const directory = mkdtempSync(join(tmpdir(), 'as-'));
    const delivered: number[][] = [];
    const sockets = open((count) => {
      for (let at = 0; at < count; at++) {
        delivered.push([...sockets.events.subarray(at * INTS, (at + 1) * INTS)]);
      }
    });
    const seen = (kind: number) => delivered.find(([what]) => what === kind);
    const path = join(directory, 's');
    const listener = addon.listen(sockets.handle, path, 1);
    const client = connect(path);
    try {
      await eventually(() => seen(ACCEPTED) !== undefined);
      const [, id = -1] = seen(ACCEPTED) ?? [];
      assert.strictEqual(addon.reserve(sockets.handle, id, TOO_LONG), 0);
      addon.commit(sockets.handle, id, TOO_LONG);
      await eventually(() => seen(ENDED) !== undefined);
      assert.deepStrictEqual(seen(ENDED), [ENDED, id, constants.errno.EMSGSIZE, 0]);
      sockets.commands.set([CLOSE, id, 0, 0]);
      addon.execute(sockets.handle, 1);
      await once(client.resume(), 'close');
    } finally {
      client.destroy();
      sockets.commands.set([CLOSE, listener, 0, 0]);
      addon.execute(sockets.handle, 1);
      rmSync(directory, { recursive: true });
    }
  });
});
