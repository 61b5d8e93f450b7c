import assert from 'node:assert';
import { isRestOfFrame } from '../../src/protocol/frame-rest';
import { frame, putFrame } from '../support/frames';

/** Of a payload so much must be there to be told from a word. */
const TOLD_OCTETS = 5;
const SEEN: readonly Buffer[] = [
  frame('6f000004', 'GET', 'motd'),
  frame('0a1b2c3d', 'GET', 'sdc:operator-script'),
  frame('00000001', 'GET', 'cloud-init:user-data'),
  frame('ffffffff', 'KEYS'),
  frame('00000002', 'GET'),
  frame('00000003', 'DELETE', 'root_pw'),
  putFrame('00000004', 'colour', 'blue'),
].map((whole) => whole.subarray(0, -1));

describe('the rest of a frame', () => {
  it('is told after a loss, wherever the frame was cut', () => {
    for (const whole of SEEN) {
      const text = whole.toString();
      for (let at = 1; at <= whole.length - TOLD_OCTETS; at++) {
        const rest = whole.subarray(at);
        // These are what V1 clients say.
        const isV1 = ['KEYS', 'GET', 'DELETE'].includes(rest.toString());
        assert.ok(isRestOfFrame(rest, true) || isV1, `${text} at ${at}`);
        assert.ok(isRestOfFrame(Buffer.concat([rest, Buffer.from('\r')]), true) || isV1);
      }
    }
  });

  it('is told without a loss by its id and code', () => {
    for (const whole of SEEN) {
      const crcAt = whole.indexOf(' ', 3) + 1;
      for (let at = 1; at <= crcAt + 9; at++) {
        const noisy = Buffer.concat([Buffer.from('\xffx', 'latin1'), whole.subarray(at)]);
        assert.ok(isRestOfFrame(noisy, false), `${whole.toString()} at ${at}`);
      }
    }
  });

  it('is no word of a person, a program or a V1 client', () => {
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
        assert.ok(!isRestOfFrame(Buffer.from(line, 'latin1'), afterLoss), line);
      }
    }
  });
});
