/*
 * Target `parse`: one line from a zone's socket is understood as the protocol says, and what is answered
 * to it without data is what the protocol says, byte by byte. Input: the line.
 */
import { parseLine } from '../../../src/protocol/request';
import type { LineRequest } from '../../../src/protocol/request';
import { encodeReply, replyToLine } from '../../../src/protocol/reply';
import { magnitude, nameNumber } from '../features';
import { answerOf, answerToLine, meaningOf, wordsOf } from '../model/request';
import { same } from '../target';
import type { Target } from '../target';
import { randomLine, repairFrames, WORDS } from './protocol-words';

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
        break;
      }
      default:
        checkLine(request, words);
    }
    const broken = request.kind === 'broken' ? nameNumber(request.reason) : 0;
    const version = 'wire' in request ? request.wire.version : 0;
    features.reach(10, nameNumber(request.kind), version, magnitude(input.length));
    features.reach(11, nameNumber(request.kind), broken, magnitude(words.length));
  },
};

function checkLine(request: LineRequest, words: string): void {
  const reply = replyToLine(request);
  same('the answer to a line', reply?.toString('latin1') ?? '', answerToLine(words) ?? 'none');
}
