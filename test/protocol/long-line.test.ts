import assert from 'node:assert';
import { parseInSteps } from '../../src/protocol/long-line';
import { parseLine, type Request } from '../../src/protocol/request';
import { base64, frame, putFrame } from '../support/frames';

const ID = 'a1b2c3d4';
const KEY = base64(Buffer.from('k'));
const VALUE = 'v\u00e9"\n'.repeat(50_000);
const BASE64 = base64(Buffer.from(VALUE));

function inSteps(line: Buffer): { request: Request; steps: number } {
  // Its memory is written to.
  const run = parseInSteps(Buffer.from(line));
  for (let steps = 1; ; steps++) {
    const { done, value } = run.next();
    if (done === true) {
      return { request: value, steps };
    }
  }
}

/** With a byte of it changed. */
function damaged(line: Buffer, at: number): Buffer {
  const copy = Buffer.from(line);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

const cut = (line: Buffer): Buffer => line.subarray(0, -1);
const PUT = cut(putFrame(ID, 'k', VALUE));

const LINES: Readonly<Record<string, Buffer>> = {
  'a PUT': PUT,
  'a PUT of bytes that are not UTF-8': cut(putFrame(ID, 'k', Buffer.alloc(100_000, 0xff))),
  'a PUT with a long key': cut(putFrame(ID, 'k'.repeat(100_000), 'v')),
  'a PUT without a value': cut(frame(ID, 'PUT', KEY.repeat(30_000))),
  'a PUT whose value is not base64': cut(frame(ID, 'PUT', `${KEY} ${BASE64.slice(0, -9)}-AAA`)),
  'a PUT with a term too many': cut(frame(ID, 'PUT', `${KEY} ${BASE64} dg==`)),
  'a PUTIF': cut(frame(ID, 'PUTIF', `${KEY} ${BASE64} ${'0'.repeat(32)}`)),
  'a PUTIF without a token': cut(frame(ID, 'PUTIF', `${KEY} ${BASE64}`)),
  'a PUTIF with a long token': cut(frame(ID, 'PUTIF', `${KEY} dg== ${'t'.repeat(100_000)}`)),
  'a DELETEIF': cut(frame(ID, 'DELETEIF', `${base64(Buffer.from(VALUE))} -`)),
  'a GET of a long key': cut(frame(ID, 'GET', 'k'.repeat(100_000))),
  'a WATCH of too many keys': cut(frame(ID, 'WATCH', `1 - ${BASE64}`)),
  'a KEYS with a payload': cut(frame(ID, 'KEYS', VALUE)),
  'an unknown code': cut(frame(ID, 'PUTT', VALUE)),
  'a payload that is not base64': damaged(PUT, PUT.length - 1),
  'a frame with a wrong CRC': damaged(PUT, 100),
  'a frame with a wrong length': Buffer.concat([PUT, Buffer.from('AAAA')]),
  'a frame with a CR behind it': Buffer.concat([PUT, Buffer.from('\r')]),
  'a frame behind noise': Buffer.concat([Buffer.from('\0\0noise'), PUT]),
  'a V1 GET of a long key': Buffer.from(`GET ${'k'.repeat(100_000)}`),
  'no command': Buffer.from('x'.repeat(100_000)),
};

describe('long-line', () => {
  for (const [what, line] of Object.entries(LINES)) {
    it(`makes the same request of ${what} as in one go`, () => {
      assert.deepStrictEqual(inSteps(line).request, parseLine(line, 'socket'));
    });
  }

  it('reads the value of a long PUT as its UTF-8', () => {
    assert.deepStrictEqual(inSteps(PUT).request, {
      kind: 'put',
      wire: { version: 2, id: ID },
      key: 'k',
      value: Buffer.from(VALUE),
    });
  });

  it('takes more steps for a longer line', () => {
    const twice = cut(putFrame(ID, 'k', VALUE.repeat(2)));
    const { steps } = inSteps(PUT);
    assert(steps > PUT.length / (64 * 1024), `${steps} steps`);
    assert(inSteps(twice).steps > 1.8 * steps);
  });
});
