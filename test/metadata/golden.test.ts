import assert from 'node:assert';
import { answer } from '../../src/metadata/handler';
import { LineReader } from '../../src/protocol/line-reader';
import { encodeReply, replyToLine } from '../../src/protocol/reply';
import { parseLine } from '../../src/protocol/request';
import type { Channel, Request } from '../../src/protocol/request';
import { GOLDEN } from '../support/golden';
import { FIXTURE } from '../support/vm-fixture';
import { VERB_OPTIONS } from '../support/verb-options';
import { memoryVm } from '../support/vm-data';
import type { MemoryVm } from '../support/vm-data';

const OPTIONS = {
  operatorScriptWritable: false,
  emptyValuesStored: false,
  ...VERB_OPTIONS,
  commaDeletes: true,
  onFault: (_zonename: string, _request: unknown, err: unknown): void => assert.fail(String(err)),
};

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
      out += await said(vm, parseLine(line.bytes, channel));
    }
  }
  return out;
}

async function said(vm: MemoryVm, request: Request): Promise<string> {
  switch (request.kind) {
    case 'get':
    case 'keys':
    case 'watch':
    case 'getall':
    case 'hello':
    case 'put':
    case 'delete':
      return encodeReply(request.wire, await answer(vm, request, OPTIONS)).toString('latin1');
    default:
      return replyToLine(request)?.toString('latin1') ?? '';
  }
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
