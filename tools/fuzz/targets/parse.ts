/*
 * Target `parse`: one line from a zone's socket is understood as the protocol says, and what is answered
 * to it without data is what the protocol says, byte by byte. Input: the line. Of some inputs a line and a reply are
 * made that are so long that they are decoded and encoded in pieces.
 */
import { crc32 } from 'node:zlib';
import { parseLine } from '../../../src/protocol/request';
import type { LineRequest, Wire } from '../../../src/protocol/request';
import { encodeReply, ReplyEncoder, replyToLine, sizeOfReply } from '../../../src/protocol/reply';
import { magnitude, nameNumber } from '../features';
import { answerOf, answerToLine, meaningOf, wordsOf } from '../model/request';
import { frameOf, toBase64, toUtf8 } from '../model/wire';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { randomLine, repairFrames, WORDS } from './protocol-words';

/** Some pieces of it, characters. */
const LONG_CHARS = 120_000;
/** The model is slow: of so many inputs one is made long. */
const INPUTS_A_LONG_ONE = 512;

export const parse: Target = {
  name: 'parse',
  words: WORDS,

  generate(random, draft) {
    draft.latin1(randomLine(random));
  },

  repair(random, draft) {
    if (!random.oneIn(3)) {
      repairFrames(draft);
    }
  },

  run(input, features) {
    const line = input.toString('latin1');
    const request = parseLine(input, 'socket');
    const words = wordsOf(request);
    same('the meaning of a line', words, meaningOf(line));
    const version = 'wire' in request ? request.wire.version : 0;
    switch (request.kind) {
      case 'get':
      case 'keys':
      case 'put':
      case 'delete':
      case 'watch':
      case 'getall':
      case 'hello': {
        // Whatever text there is goes back as a value: encoding is checked on all that decodes.
        const text = request.kind === 'put' ? request.value.toString() : `.${words}\n.`;
        const by = request.wire.version === 1 ? 'v1' : request.wire.id;
        const reply = encodeReply(request.wire, { kind: 'success', text });
        same('the bytes of a value', reply.toString('latin1'), answerOf(by, 'SUCCESS', text));
        if (text !== '' && crc32(input) % INPUTS_A_LONG_ONE === 0) {
          const long = text.repeat(Math.ceil(LONG_CHARS / text.length));
          checkLongPut(long);
          checkLongReply(request.wire, long);
          features.reach(12, nameNumber(request.kind), version, long.length % 3);
        }
        break;
      }
      default:
        checkLine(request, words);
    }
    const broken = request.kind === 'broken' ? nameNumber(request.reason) : 0;
    features.reach(10, nameNumber(request.kind), version, magnitude(input.length));
    features.reach(11, nameNumber(request.kind), broken, magnitude(words.length));
  },
};

function checkLongPut(value: string): void {
  const payload = toBase64(`${toBase64('key')} ${toBase64(toUtf8(value))}`);
  const line = frameOf(`1a2b3c4d PUT ${payload}`);
  const request = parseLine(Buffer.from(line, 'latin1'), 'socket');
  same('the meaning of a long line', wordsOf(request), meaningOf(line));
}

function checkLongReply(wire: Wire, text: string): void {
  const memory = Buffer.alloc(sizeOfReply(wire, { kind: 'success', text }));
  const encoder = new ReplyEncoder(wire, { text });
  const fill = (at: number, bytes: Buffer): void => {
    if (bytes.copy(memory, at) < bytes.length) {
      throw new Wrong('a long reply has the size that was told', { size: memory.length, at });
    }
  };
  let length: number | null = null;
  while (length === null) {
    length = encoder.step({ fill });
  }
  const by = wire.version === 1 ? 'v1' : wire.id;
  const bytes = memory.toString('latin1', 0, length);
  same('the bytes of a long value', bytes, answerOf(by, 'SUCCESS', text));
}

function checkLine(request: LineRequest, words: string): void {
  const reply = replyToLine(request);
  same('the answer to a line', reply?.toString('latin1') ?? '', answerToLine(words) ?? 'none');
}
