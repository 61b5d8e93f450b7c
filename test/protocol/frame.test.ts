import assert from 'node:assert';
import fc from 'fast-check';
import { buildFrame, isFrameTail, readFrame } from '../../src/protocol/frame';
import * as reference from '../support/frames';
import { CRC_VECTORS } from '../support/golden';

const id = fc.stringMatching(/^[0-9a-f]{8}$/);
const code = fc.constantFrom('GET', 'KEYS', 'PUT', 'DELETE', 'SUCCESS', 'NOTFOUND', 'FAILURE', '!');
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));

/** A line without its LF, as the line reader hands it out. */
function line(frame: Buffer): Buffer {
  return frame.subarray(0, -1);
}

function reasonOf(text: string): string {
  const read = readFrame(Buffer.from(text, 'latin1'));
  assert(read.kind === 'none', text);
  return read.reason;
}

describe('frame', () => {
  it('has the CRC that zlib has', () => {
    for (const [text, crc] of CRC_VECTORS) {
      assert.strictEqual(reference.crcText(Buffer.from(text)), crc);
    }
    const known = Buffer.from('V2 21 265ae1d8 dc4fae17 SUCCESS W10=\n');
    assert.deepStrictEqual(buildFrame('dc4fae17', 'SUCCESS', '[]'), known);
  });

  it('is built as an independent builder builds it', () => {
    fc.assert(
      fc.property(id, code, bytes, (anId, aCode, data) => {
        assert.deepStrictEqual(buildFrame(anId, aCode, data), reference.frame(anId, aCode, data));
      }),
    );
  });

  it('is read back to what it was built of', () => {
    fc.assert(
      fc.property(id, code, bytes, fc.constantFrom('', '\r'), (anId, aCode, data, end) => {
        const sent = Buffer.concat([line(reference.frame(anId, aCode, data)), Buffer.from(end)]);
        const payload = reference.base64(data);
        assert.deepStrictEqual(readFrame(sent), {
          ...{ kind: 'frame', id: anId, code: aCode },
          payload: Buffer.from(payload),
        });
      }),
    );
  });

  it('is never accepted with one bit of its body or CRC wrong', () => {
    fc.assert(
      fc.property(id, code, bytes, fc.nat(), (anId, aCode, data, place) => {
        const sent = line(reference.frame(anId, aCode, data));
        const headerEnd = sent.indexOf(' ', 3) + 1;
        const bit = headerEnd * 8 + (place % ((sent.length - headerEnd) * 8));
        const byte = sent[bit >> 3] ?? 0;
        sent[bit >> 3] = byte ^ (1 << (bit & 7));
        assert.strictEqual(readFrame(sent).kind, 'none');
      }),
      { numRuns: 1000 },
    );
  });

  it('is never accepted cut short', () => {
    const sent = line(reference.frame('6f000004', 'GET', 'motd'));
    for (let length = 0; length < sent.length; length++) {
      assert.strictEqual(readFrame(sent.subarray(0, length)).kind, 'none', String(length));
    }
  });

  it('may have more than one SP between the fields of its header and zeros before its length', () => {
    const crc = '433221a9';
    const read = readFrame(Buffer.from(`V2   0021  ${crc}   6f000004 GET bW90ZA==`));
    assert(read.kind === 'frame');
    assert.strictEqual(read.payload.toString(), 'bW90ZA==');
  });

  it('keeps an empty payload and its SP, which its length counts', () => {
    const body = 'a1000005 GET ';
    const sent = reference.frameOfBody(body);
    for (const end of ['', '\r']) {
      const read = readFrame(Buffer.concat([sent, Buffer.from(end)]));
      assert.deepStrictEqual(read, {
        kind: 'frame',
        id: 'a1000005',
        code: 'GET',
        payload: Buffer.alloc(0),
      });
    }
  });

  it('may be followed by white space that its length does not count', () => {
    const sent = reference.frameOfBody('a1000005 KEYS').toString('latin1');
    for (const end of [' ', '\t\r', ' \x0b\x0c ']) {
      assert.strictEqual(readFrame(Buffer.from(sent + end)).kind, 'frame');
    }
    for (const end of ['\0', '.', '\x85']) {
      assert.strictEqual(reasonOf(sent + end), 'length does not match');
    }
  });

  it('gives the reason why a line is not a frame', () => {
    const good = '433221a9 6f000004 GET bW90ZA==';
    assert.strictEqual(reasonOf('GET motd'), 'does not begin with V2');
    assert.strictEqual(reasonOf('V2'), 'no length');
    assert.strictEqual(reasonOf(`V221 ${good}`), 'no length');
    assert.strictEqual(reasonOf(`V2\t21 ${good}`), 'no length');
    assert.strictEqual(reasonOf(`V2 junk 21 ${good}`), 'no length');
    assert.strictEqual(reasonOf(`V2 -21 ${good}`), 'no length');
    assert.strictEqual(reasonOf('V2 21'), 'no CRC of eight lower-case hex digits');
    assert.strictEqual(
      reasonOf(`V2 21 ${good.toUpperCase()}`),
      'no CRC of eight lower-case hex digits',
    );
    assert.strictEqual(reasonOf(`V2 21 0${good}`), 'no CRC of eight lower-case hex digits');
    assert.strictEqual(reasonOf('V2 21 433221a9'), 'no body');
    assert.strictEqual(reasonOf('V2 0 00000000 '), 'no body');
    assert.strictEqual(reasonOf(`V2 0 ${good}`), 'length does not match');
    assert.strictEqual(reasonOf(`V2 20 ${good}`), 'length does not match');
    assert.strictEqual(reasonOf(`V2 ${'9'.repeat(400)} ${good}`), 'length does not match');
    assert.strictEqual(reasonOf(`V2 21 ${good.replace('4', '5')}`), 'CRC does not match');
  });

  it('needs an id, a code and nothing but ASCII, though length and CRC be right', () => {
    const reason = (body: string): string =>
      reasonOf(reference.frameOfBody(body).toString('latin1'));
    assert.strictEqual(reason('XYZ GET'), 'no request id of lower-case hex digits');
    assert.strictEqual(reason('6F000004 GET'), 'no code');
    assert.strictEqual(reason('6f000004'), 'no code');
    assert.strictEqual(reason('6f000004\tGET'), 'no code');
    assert.strictEqual(reason('6f000004 \x01'), 'no code');
    assert.strictEqual(reason('6f000004 GET\xe9'), 'a code with other than visible characters');
    assert.strictEqual(reason('6f000004 GET bW90\xe9'), 'a byte that is not ASCII');
  });
});

/** So many bytes of a payload must be there to be recognised. */
const RECOGNISED_BYTES = 5;
const FRAMES: readonly Buffer[] = [
  reference.frame('6f000004', 'GET', 'motd'),
  reference.frame('0a1b2c3d', 'GET', 'sdc:operator-script'),
  reference.frame('00000001', 'GET', 'cloud-init:user-data'),
  reference.frame('ffffffff', 'KEYS'),
  reference.frame('00000002', 'GET'),
  reference.frame('00000003', 'DELETE', 'root_pw'),
  reference.putFrame('00000004', 'colour', 'blue'),
].map((whole) => whole.subarray(0, -1));

describe('the tail of a frame', () => {
  it('is recognised after a loss, wherever the frame was cut', () => {
    for (const whole of FRAMES) {
      const text = whole.toString();
      for (let at = 1; at <= whole.length - RECOGNISED_BYTES; at++) {
        const tail = whole.subarray(at);
        // These are V1 requests.
        const isV1 = ['KEYS', 'GET', 'DELETE'].includes(tail.toString());
        assert.ok(isFrameTail(tail, true) || isV1, `${text} at ${at}`);
        assert.ok(isFrameTail(Buffer.concat([tail, Buffer.from('\r')]), true) || isV1);
      }
    }
  });

  it('is recognised without a loss by its id and code', () => {
    for (const whole of FRAMES) {
      const crcAt = whole.indexOf(' ', 3) + 1;
      for (let at = 1; at <= crcAt + 9; at++) {
        const noisy = Buffer.concat([Buffer.from('\xffx', 'latin1'), whole.subarray(at)]);
        assert.ok(isFrameTail(noisy, false), `${whole.toString()} at ${at}`);
      }
    }
  });

  it('is not found in what a person, a program or a V1 client writes', () => {
    const lines = [
      'bad',
      'FOO bar',
      'PUT Zm9v YmFy',
      'PUT a b',
      'DELETE motd',
      'GET motd',
      'GET fooBar',
      'GET two words',
      'GET 12 KEYS',
      'GET a KEYS',
      'KEYS',
      ' KEYS all',
      'FAILURE',
      'NOTFOUND',
      'invalid command',
      'SUCCESS',
      'value',
      '.',
      'login: ',
      'Password:',
      'host login: root',
      'Login incorrect',
      'get',
      'V2_OK',
      '\xff\xfe',
    ];
    for (const line of lines) {
      for (const afterLoss of [true, false]) {
        assert.ok(!isFrameTail(Buffer.from(line, 'latin1'), afterLoss), line);
      }
    }
  });
});
