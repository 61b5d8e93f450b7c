import assert from 'node:assert';
import fc from 'fast-check';
import {
  encodeReply,
  ReplyEncoder,
  replyToLine,
  sizeOfReply,
  type Reply,
} from '../../src/protocol/reply';
import type { Wire } from '../../src/protocol/request';
import { frame, readFrame, readV1Value } from '../support/frames';

type Success = Extract<Reply, { readonly kind: 'success' }>;

const V1: Wire = { version: 1 };
const V2: Wire = { version: 2, id: 'a1b2c3d4' };

/** Text with many of the places that dot-stuffing is about. */
const dotty = fc
  .array(fc.constantFrom('.', '\n', '\r', '\u2028', '\u2029', 'a', '☃', ' '), { maxLength: 40 })
  .map((parts) => parts.join(''));

/** A reply that is encoded piece by piece, and how many pieces it took. */
function inPieces(wire: Wire, reply: Success): { readonly bytes: Buffer; readonly pieces: number } {
  const memory = Buffer.alloc(sizeOfReply(wire, reply), 0xff);
  const encoder = new ReplyEncoder(wire, reply);
  for (let pieces = 1; ; pieces++) {
    const whole = encoder.step({
      fill: (at, bytes) => {
        assert.ok(at + bytes.length <= memory.length, 'the size is known before');
        bytes.copy(memory, at);
      },
    });
    if (whole !== null) {
      return { bytes: memory.subarray(0, whole), pieces };
    }
  }
}

function listOf(names: readonly string[]): Success {
  return { kind: 'success', text: Buffer.from(names.join('\n')) };
}

describe('reply', () => {
  it('reaches an independent V1 receiver unchanged', () => {
    fc.assert(
      fc.property(dotty, (text) => {
        const sent = encodeReply(V1, { kind: 'success', text }).toString('utf8');
        assert.strictEqual(readV1Value(sent), text);
      }),
    );
  });

  it('reaches an independent V2 receiver unchanged', () => {
    fc.assert(
      fc.property(fc.oneof(dotty, fc.string()), (text) => {
        const sent = encodeReply(V2, { kind: 'success', text }).toString('latin1');
        const { id, code, payload } = readFrame(sent);
        assert.deepStrictEqual([id, code, payload.toString()], ['a1b2c3d4', 'SUCCESS', text]);
      }),
    );
  });

  it('is the same in pieces as in one, wherever a piece ends', () => {
    const wide = '\u{1f600}';
    const texts = ['x', 'é', '☃', wide, '.\n', '\n.', '.', `a${wide}`, `ab${wide}\n.☃`, '\ud800'];
    for (const [shift, unit] of texts.entries()) {
      for (const chars of [49_150, 49_151, 49_152, 49_153, 150_000]) {
        const text = '.'.repeat(shift % 3) + unit.repeat(Math.ceil(chars / unit.length));
        for (const wire of [V1, V2]) {
          const { bytes, pieces } = inPieces(wire, { kind: 'success', text });
          assert.ok(bytes.equals(encodeReply(wire, { kind: 'success', text })), `${chars} ${unit}`);
          assert.ok(chars < 150_000 || pieces >= 3);
        }
      }
    }
  });

  it('is a list of names in pieces as in one', () => {
    const names = Array.from(
      { length: 20_000 },
      (_, n) => (['.a', 'b☃'][n % 3] ?? 'c') + String(n),
    );
    for (const list of [listOf(names), listOf(['k'.repeat(1_000_000) + '☃', '.x', 'y'])]) {
      for (const wire of [V1, V2]) {
        assert.ok(inPieces(wire, list).bytes.equals(encodeReply(wire, list)));
      }
    }
  });

  it('knows its size before it is encoded, and little more than that', () => {
    for (const text of ['x'.repeat(100_000), '☃'.repeat(100_000), 'a\n'.repeat(50_000)]) {
      for (const wire of [V1, V2]) {
        const size = sizeOfReply(wire, { kind: 'success', text });
        const { length } = encodeReply(wire, { kind: 'success', text });
        assert.ok(size >= length && size < length + 100, `${size} for ${length}`);
      }
    }
  });

  it('doubles a dot after LF and at the start, and nowhere else', () => {
    const stuffed = (text: string): string =>
      encodeReply(V1, { kind: 'success', text }).toString('utf8');
    assert.strictEqual(stuffed('.a\n.b\n..c'), 'SUCCESS\n..a\n..b\n...c\n.\n');
    assert.strictEqual(stuffed('a\r.b\u2028.c\u2029.d'), 'SUCCESS\na\r.b\u2028.c\u2029.d\n.\n');
    assert.strictEqual(stuffed('\n.\n'), 'SUCCESS\n\n..\n\n.\n');
    assert.strictEqual(stuffed(''), 'SUCCESS\n\n.\n');
  });

  it('has no reason for a failure in V1 and no payload for an empty one in V2', () => {
    const failure = { kind: 'failure', text: 'reason' } as const;
    assert.strictEqual(encodeReply(V1, failure).toString(), 'FAILURE\n');
    assert.deepStrictEqual(encodeReply(V2, failure), frame('a1b2c3d4', 'FAILURE', 'reason'));
    assert.deepStrictEqual(
      encodeReply(V2, { kind: 'failure', text: '' }),
      frame('a1b2c3d4', 'FAILURE'),
    );
    assert.strictEqual(encodeReply(V1, { kind: 'notfound' }).toString(), 'NOTFOUND\n');
    assert.deepStrictEqual(encodeReply(V2, { kind: 'notfound' }), frame('a1b2c3d4', 'NOTFOUND'));
  });

  it('answers lines that need no data from the line alone', () => {
    const text = (request: Parameters<typeof replyToLine>[0]): string | undefined =>
      replyToLine(request)?.toString('latin1');
    assert.strictEqual(text({ kind: 'reset', bare: true }), 'invalid command\n');
    assert.strictEqual(text({ kind: 'reset', bare: false }), 'invalid command\n');
    assert.strictEqual(text({ kind: 'negotiate', accepted: true }), 'V2_OK\n');
    assert.strictEqual(text({ kind: 'negotiate', accepted: false }), 'FAILURE\n');
    assert.strictEqual(text({ kind: 'malformed', wire: V1, text: 'x' }), 'FAILURE\n');
    assert.strictEqual(text({ kind: 'unknown', wire: V1, verb: 'FOO' }), 'FAILURE\n');
    assert.strictEqual(text({ kind: 'too-large', wire: V1 }), 'FAILURE\n');
  });

  it('gives the reason in V2, and is silent for a broken frame', () => {
    const failure = (text: string): Buffer => frame('a1b2c3d4', 'FAILURE', text);
    for (const text of ['Invalid PUT Request', 'Key is not UTF-8.']) {
      const reply = replyToLine({ kind: 'malformed', wire: V2, text });
      assert.deepStrictEqual(reply, failure(text));
    }
    assert.deepStrictEqual(
      replyToLine({ kind: 'unknown', wire: V2, verb: 'get' }),
      failure('Unknown command get'),
    );
    assert.deepStrictEqual(
      replyToLine({ kind: 'too-large', wire: V2 }),
      failure('Request too large'),
    );
    const line = Buffer.from('V2 x');
    assert.strictEqual(replyToLine({ kind: 'broken', reason: 'no length', line }), null);
  });
});
