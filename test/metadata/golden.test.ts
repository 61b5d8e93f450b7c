import assert from 'node:assert';
import { LineReader } from '../../src/protocol/line-reader';
import { parseLine } from '../../src/protocol/request';
import type { Channel } from '../../src/protocol/request';
import { GOLDEN } from '../support/golden';
import { FIXTURE } from '../support/vm-fixture';
import { replyOf } from '../support/reply-of';
import { memoryVm } from '../support/vm-data';
import type { MemoryVm } from '../support/vm-data';

/** All that a VM says to a stream of bytes that comes in the given chunks. */
async function converse(
  vm: MemoryVm,
  chunks: readonly Buffer[],
  channel: Channel,
): Promise<string> {
  const lines = new LineReader(2 * 1024 * 1024);
  let out = '';
  for (const chunk of chunks) {
    lines.push(chunk);
    for (let line = lines.next(); line !== null; line = lines.next()) {
      assert(line.kind === 'line');
      out += await replyOf(vm, parseLine(line.bytes, channel));
    }
  }
  return out;
}

describe('the worked examples of the specification', () => {
  for (const { name, in: sent, out, change } of GOLDEN) {
    const bytes = Buffer.from(sent, 'latin1');
    const changes = change === undefined ? [] : [change];

    it(`${name} (socket)`, async () => {
      const vm = memoryVm(FIXTURE);
      assert.strictEqual(await converse(vm, [bytes], 'socket'), out ?? '');
      assert.deepStrictEqual(vm.changes, changes);
    });

    it(`${name} (serial, cut at every byte)`, async () => {
      for (let at = 0; at <= bytes.length; at++) {
        const vm = memoryVm(FIXTURE);
        const chunks = [bytes.subarray(0, at), bytes.subarray(at)];
        assert.strictEqual(await converse(vm, chunks, 'serial'), out ?? '', `cut at ${at}`);
        assert.deepStrictEqual(vm.changes, changes);
      }
    });
  }

  it('give the same answers in one stream, byte by byte', async () => {
    const stream = Buffer.from(GOLDEN.map((row) => row.in).join(''), 'latin1');
    const bytes = Array.from(stream, (byte) => Buffer.from([byte]));
    const said = await converse(memoryVm(FIXTURE), bytes, 'socket');
    assert.strictEqual(said, GOLDEN.map((row) => row.out ?? '').join(''));
  });
});
