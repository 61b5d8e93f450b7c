/*
 * Target `frame`: what is built is read back the same, by our reader and by the model's, and a frame with
 * any one byte changed is none. Input: a byte for the code, two for the change, eight for the id, data.
 */
import { buildFrame, readFrame } from '../../../src/protocol/frame';
import { magnitude, nameNumber } from '../features';
import { frameIn, toBase64 } from '../model/wire';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { randomBytes, WORDS } from './protocol-words';

const CODES: readonly string[] = ['GET', 'KEYS', 'PUT', 'DELETE', 'SUCCESS', 'NOTFOUND', 'FAILURE'];
const HEX = '0123456789abcdef';
const HEAD_BYTES = 11;

export const frame: Target = {
  name: 'frame',
  words: WORDS,

  generate(random, draft) {
    for (let i = 0; i < HEAD_BYTES; i++) {
      draft.byte(random.below(256));
    }
    draft.latin1(randomBytes(random, 400));
  },

  run(input, features) {
    if (input.length < HEAD_BYTES) {
      return;
    }
    const code = CODES[(input[0] ?? 0) % CODES.length] ?? '';
    let id = '';
    for (let at = 3; at < HEAD_BYTES; at++) {
      id += HEX.charAt((input[at] ?? 0) & 15);
    }
    const data = input.subarray(HEAD_BYTES);
    const built = buildFrame(id, code, data);
    const line = built.subarray(0, built.length - 1);
    const payload = toBase64(data.toString('latin1'));
    const wanted = `${id} ${code} ${payload}`;
    const read = readFrame(line);
    same('a frame read back', read.kind === 'frame' ? textOf(read) : read.reason, wanted);
    const model = frameIn(line.toString('latin1'));
    same('a frame read by another', model === null ? 'none' : textOf(model), wanted);
    if (built[built.length - 1] !== 0x0a) {
      throw new Wrong('a frame ends in LF');
    }
    const reason = corrupt(line, input[1] ?? 0, input[2] ?? 0);
    features.reach(20, nameNumber(code), magnitude(data.length), data.length % 3);
    features.reach(21, nameNumber(reason), magnitude(line.length));
  },
};

function textOf(frame: { id: string; code: string; payload: string | Buffer }): string {
  return `${frame.id} ${frame.code} ${frame.payload.toString()}`;
}

/** @returns why the corrupt line is not a frame */
function corrupt(line: Buffer, where: number, how: number): string {
  const at = (where * 251 + how) % line.length;
  const before = line[at] ?? 0;
  const after = before ^ (1 + (how % 255));
  line[at] = after;
  const read = readFrame(line);
  line[at] = before;
  // More white space between the fields of the header, or a leading zero, says the same thing.
  if (read.kind === 'frame' && after !== 0x20) {
    throw new Wrong('a corrupt frame is rejected', { at, before, after });
  }
  return read.kind === 'frame' ? '' : read.reason;
}
