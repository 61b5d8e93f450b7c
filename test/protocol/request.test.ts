import assert from 'node:assert';
import fc from 'fast-check';
import { parseLine, parseOversize } from '../../src/protocol/request';
import type { Request } from '../../src/protocol/request';
import { base64, frame, frameOfBody, putFrame } from '../support/frames';

const ID = 'a1b2c3d4';
const V1 = { version: 1 };
const V2 = { version: 2, id: ID };

function onSocket(line: string | Buffer): Request {
  return parseLine(Buffer.from(line as string, 'latin1'), 'socket');
}

function onSerial(line: string | Buffer): Request {
  return parseLine(Buffer.from(line as string, 'latin1'), 'serial');
}

function v2(code: string, payload: Buffer | string = ''): Request {
  return onSocket(frame(ID, code, payload).subarray(0, -1));
}

function put(key: Buffer | string, value: Buffer | string): Request {
  return onSocket(putFrame(ID, key, value).subarray(0, -1));
}

function refused(verb: 'GET' | 'PUT' | 'DELETE', text = `Invalid ${verb} Request`): unknown {
  return { kind: 'malformed', wire: V2, text };
}

const MALFORMED_PUT = refused('PUT');

describe('request', () => {
  it('never throws, whatever the line is', () => {
    const words = fc.constantFrom('V2 ', 'GET ', 'KEYS', 'NEGOTIATE V2', '\0', '21 ', '433221a9 ');
    const noise = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array));
    const line = fc
      .array(
        fc.oneof(
          words.map((word) => Buffer.from(word)),
          noise,
        ),
        { maxLength: 8 },
      )
      .map((parts) => Buffer.concat(parts));
    fc.assert(
      fc.property(line, fc.constantFrom('socket' as const, 'serial' as const), (bytes, channel) => {
        assert.strictEqual(typeof parseLine(bytes, channel).kind, 'string');
        assert.strictEqual(parseOversize(bytes.subarray(0, 64), channel).kind, 'too-large');
      }),
      { numRuns: 2000 },
    );
  });

  it('never throws for a frame with any body', () => {
    const body = fc
      .tuple(
        fc.constantFrom('GET ', 'PUT ', 'DELETE ', 'KEYS ', ''),
        fc.base64String(),
        fc.string(),
      )
      .map(([code, good, noise]) => `${ID} ${code}${good}${noise}`);
    fc.assert(
      fc.property(body, (text) => {
        assert.strictEqual(typeof onSocket(frameOfBody(text)).kind, 'string');
      }),
    );
  });

  it('cuts SP, HTAB, CR, VT and FF from the end of a line, but no NUL', () => {
    assert.deepStrictEqual(onSocket('GET a \t\r\x0b\x0c'), { kind: 'get', wire: V1, key: 'a' });
    assert.deepStrictEqual(onSocket('GET a\0'), { kind: 'get', wire: V1, key: 'a\0' });
    assert.deepStrictEqual(onSocket('GET a\xc2\xa0'), { kind: 'get', wire: V1, key: 'a\u00a0' });
  });

  it('reads an empty line as a bare reset, and a line without a command as another', () => {
    for (const line of ['', ' \t', '\r', '\x0b\x0c']) {
      assert.deepStrictEqual(onSocket(line), { kind: 'reset', bare: true });
    }
    for (const line of [' GET a', '\tKEYS', '\rKEYS', 'GET', 'GET  ', 'NEGOTIATE', 'NEGOTIATE\t']) {
      assert.deepStrictEqual(onSocket(line), { kind: 'reset', bare: false });
    }
  });

  it('negotiates V2 and nothing else', () => {
    for (const line of ['NEGOTIATE V2', 'NEGOTIATE\tV2', 'NEGOTIATE V2 \r']) {
      assert.deepStrictEqual(onSocket(line), { kind: 'negotiate', accepted: true });
    }
    for (const line of ['NEGOTIATE v2', 'NEGOTIATE V1', 'NEGOTIATE  V2', 'NEGOTIATE V2 V2']) {
      assert.deepStrictEqual(onSocket(line), { kind: 'negotiate', accepted: false });
    }
  });

  it('trims a key outside and leaves its inside alone', () => {
    assert.deepStrictEqual(onSocket('GET \t two  words\t'), {
      kind: 'get',
      wire: V1,
      key: 'two  words',
    });
    assert.deepStrictEqual(v2('GET', ' two  words\n'), {
      kind: 'get',
      wire: V2,
      key: 'two  words',
    });
  });

  it('keeps a byte order mark at the start of a key or value', () => {
    assert.deepStrictEqual(put('k', '\ufeffv'), {
      kind: 'put',
      wire: V2,
      key: 'k',
      value: '\ufeffv',
    });
    assert.deepStrictEqual(v2('GET', '\ufeffk'), { kind: 'get', wire: V2, key: '\ufeffk' });
  });

  it('reads and removes names with outer Unicode spaces, and makes no new ones', () => {
    for (const key of ['\ufeffk', 'k\u00a0', '\u2003k', 'k\u2028', '\u3000k']) {
      assert.deepStrictEqual(v2('GET', key), { kind: 'get', wire: V2, key });
      assert.deepStrictEqual(v2('DELETE', key), { kind: 'delete', wire: V2, key });
      const why = 'Key begins or ends with white space.';
      assert.deepStrictEqual(put(key, 'v'), refused('PUT', why), JSON.stringify(key));
    }
    assert.strictEqual(put('a\u00a0b', 'v').kind, 'put');
  });

  it('accepts a new key of 1024 bytes and no longer one, and reads and removes any', () => {
    for (const key of ['k'.repeat(1024), '\u00e9'.repeat(512), '\u{1f600}'.repeat(256)]) {
      assert.deepStrictEqual(put(key, 'v'), { kind: 'put', wire: V2, key, value: 'v' });
      const longer = `${key}x`;
      assert.deepStrictEqual(put(longer, 'v'), refused('PUT', 'Key is too long.'));
      assert.deepStrictEqual(v2('GET', longer), { kind: 'get', wire: V2, key: longer });
      assert.deepStrictEqual(v2('DELETE', longer), { kind: 'delete', wire: V2, key: longer });
    }
  });

  it('reads unknown and lower-case words as unknown commands', () => {
    for (const line of ['FOO bar', 'get a', 'V2_OK', 'PUT a b', 'DELETE a', 'V2x', '\0GET a']) {
      const request = onSocket(line);
      assert.deepStrictEqual(request.kind === 'unknown' && request.wire, V1, line);
    }
    assert.deepStrictEqual(v2('get', 'a'), { kind: 'unknown', wire: V2, verb: 'get' });
    assert.deepStrictEqual(v2('V2', 'a'), { kind: 'unknown', wire: V2, verb: 'V2' });
  });

  it('ignores what follows KEYS', () => {
    assert.deepStrictEqual(onSocket('KEYS'), { kind: 'keys', wire: V1 });
    assert.deepStrictEqual(onSocket('KEYS \xff x'), { kind: 'keys', wire: V1 });
    assert.deepStrictEqual(v2('KEYS'), { kind: 'keys', wire: V2 });
    assert.deepStrictEqual(onSocket(frameOfBody(`${ID} KEYS no base64!`)), {
      kind: 'keys',
      wire: V2,
    });
  });

  it('refuses a key or a value that is not UTF-8', () => {
    const bad = Buffer.from([0x61, 0xff]);
    const cutCharacter = Buffer.from([0xe2, 0x98]);
    const surrogate = Buffer.from([0xed, 0xa0, 0x80]);
    for (const bytes of [bad, cutCharacter, surrogate]) {
      for (const verb of ['GET', 'DELETE'] as const) {
        assert.deepStrictEqual(v2(verb, bytes), refused(verb, 'Key is not UTF-8.'));
      }
      assert.deepStrictEqual(put(bytes, 'v'), refused('PUT', 'Key is not UTF-8.'));
      assert.deepStrictEqual(put('k', bytes), refused('PUT', 'Value is not UTF-8.'));
      const line = Buffer.concat([Buffer.from('GET '), bytes]);
      assert.deepStrictEqual(parseLine(line, 'socket'), {
        kind: 'malformed',
        wire: V1,
        text: 'Key is not UTF-8.',
      });
    }
  });

  it('gives a value of any UTF-8 as it was sent', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        assert.deepStrictEqual(put('k', value), { kind: 'put', wire: V2, key: 'k', value });
      }),
    );
  });

  it('needs exactly one SP between the terms of a PUT, and lets the value be empty', () => {
    const putOf = (terms: string): Request => v2('PUT', terms);
    const key = base64(Buffer.from('k'));
    assert.deepStrictEqual(putOf(`${key} `), { kind: 'put', wire: V2, key: 'k', value: '' });
    for (const terms of ['', ' ', key, ` ${key}`, `${key}  `, `${key}  dg==`, `${key} dg== `]) {
      assert.deepStrictEqual(putOf(terms), MALFORMED_PUT, JSON.stringify(terms));
    }
    assert.deepStrictEqual(putOf(`${base64(Buffer.from(' \t'))} dg==`), MALFORMED_PUT);
  });

  it('accepts base64 of the standard alphabet, with its padding or without', () => {
    const get = (payload: string): Request => onSocket(frameOfBody(`${ID} GET ${payload}`));
    for (const payload of ['bW90ZA==', 'bW90ZA']) {
      assert.deepStrictEqual(get(payload), { kind: 'get', wire: V2, key: 'motd' });
    }
    const wrong = [
      'bW90ZA=',
      'bW90ZA===',
      'bW9.ZA==',
      'bW90-_==',
      ' bW90ZA==',
      'bW90=ZA=',
      'bW90Z',
    ];
    for (const payload of [...wrong, '=', '====', '']) {
      assert.deepStrictEqual(get(payload), refused('GET'), payload);
    }
  });

  it('reads base64 of any length as an independent decoder does, and finds a wrong character anywhere', () => {
    for (const length of [24_575, 24_576, 24_577, 49_152, 100_000]) {
      const value = 'é'.repeat(length / 2) + 'x'.repeat(length % 2);
      const stored = length > 64 * 1024 ? Buffer.from(value) : value;
      assert.deepStrictEqual(put('k', value), { kind: 'put', wire: V2, key: 'k', value: stored });
      const text = Buffer.from(value).toString('base64');
      const lengths = [0, 1, 32_767, 32_768, text.length - 5].filter((at) => at < text.length);
      for (const [n, at] of lengths.entries()) {
        const wrong = text.slice(0, at) + '=-_. '.charAt(n % 5) + text.slice(at + 1);
        const terms = `${Buffer.from('k').toString('base64')} ${wrong}`;
        const body = `${ID} PUT ${Buffer.from(terms).toString('base64')}`;
        assert.deepStrictEqual(onSocket(frameOfBody(body)), refused('PUT'), `${length} ${at}`);
      }
    }
  });

  it('reads long lines of each verb as it reads short ones', () => {
    const long = 'é'.repeat(50_000);
    const key = Buffer.from('k').toString('base64');
    const terms = `${key} ${Buffer.from(long).toString('base64')}`;
    const value = Buffer.from(long);
    const token = '0'.repeat(32);
    const cut = 'k'.repeat(100_000);
    assert.deepStrictEqual(v2('GET', long), { kind: 'get', wire: V2, key: long });
    assert.deepStrictEqual(v2('DELETE', long), { kind: 'delete', wire: V2, key: long });
    assert.deepStrictEqual(v2('KEYS', long), { kind: 'keys', wire: V2 });
    const put = { kind: 'put', wire: V2, key: 'k', value };
    assert.deepStrictEqual(v2('PUT', terms), put);
    assert.deepStrictEqual(v2('PUTIF', `${terms} ${token}`), { ...put, onlyIf: token });
    const invalid = (verb: string): unknown => ({
      kind: 'malformed',
      wire: V2,
      text: `Invalid ${verb} Request`,
    });
    assert.deepStrictEqual(v2('PUTIF', terms), invalid('PUTIF'));
    assert.deepStrictEqual(v2('PUT', `${terms} dg==`), invalid('PUT'));
    assert.deepStrictEqual(v2('PUT', `${terms.slice(0, -9)}-AAA`), invalid('PUT'));
    assert.deepStrictEqual(v2('DELETEIF', `${key} ${cut}`), invalid('DELETEIF'));
    assert.deepStrictEqual(onSocket(`GET ${cut}`), { kind: 'get', wire: V1, key: cut });
    const noise = frame(ID, 'PUT', terms).subarray(0, -1);
    noise[100] = (noise[100] ?? 0) ^ 1;
    assert.strictEqual(onSocket(noise).kind, 'broken');
    assert.strictEqual(onSocket(frameOfBody(`${'0'.repeat(70_000)} ${cut}`)).kind, 'unknown');
  });

  it('refuses new names with control characters, and removes those of an earlier agent', () => {
    for (const key of ['a\nb', 'a\0b', '\x7f', 'a\x1fb']) {
      assert.deepStrictEqual(put(key, 'v'), refused('PUT', 'Key has control characters.'));
      assert.deepStrictEqual(v2('DELETE', key), { kind: 'delete', wire: V2, key });
      assert.deepStrictEqual(v2('GET', key), { kind: 'get', wire: V2, key });
    }
  });

  it('changes nothing under the name of the object prototype', () => {
    assert.deepStrictEqual(put('__proto__', 'v'), MALFORMED_PUT);
    assert.deepStrictEqual(v2('DELETE', '__proto__'), refused('DELETE'));
    assert.deepStrictEqual(v2('GET', '__proto__'), { kind: 'get', wire: V2, key: '__proto__' });
    assert.strictEqual(put('constructor', 'v').kind, 'put');
  });

  it('answers the sender of a line that was too long when its id can be read', () => {
    const long = putFrame(ID, 'k', 'v'.repeat(1000));
    assert.deepStrictEqual(parseOversize(long.subarray(0, 64), 'socket'), {
      kind: 'too-large',
      wire: V2,
    });
    const noisy = Buffer.concat([Buffer.from('\0\0'), long]).subarray(0, 64);
    assert.deepStrictEqual(parseOversize(noisy, 'serial'), { kind: 'too-large', wire: V2 });
    for (const head of ['GET xxxx', 'V2 9999999 0123456 a1b2c3d4 PUT', 'V2 99 01234567 a1b2c3d4']) {
      assert.deepStrictEqual(parseOversize(Buffer.from(head), 'socket'), {
        kind: 'too-large',
        wire: V1,
      });
    }
  });

  describe('on a serial port', () => {
    const good = frame(ID, 'GET', 'motd').subarray(0, -1).toString('latin1');
    const motd = { kind: 'get', wire: V2, key: 'motd' };

    it('drops NULs before any line', () => {
      assert.deepStrictEqual(onSerial('\0\0'), { kind: 'reset', bare: true });
      assert.deepStrictEqual(onSerial('\0NEGOTIATE V2'), { kind: 'negotiate', accepted: true });
      assert.deepStrictEqual(onSerial(`\0\0\0${good}`), motd);
      assert.deepStrictEqual(onSerial('\0GET motd'), { kind: 'get', wire: V1, key: 'motd' });
    });

    it('finds a whole frame behind any junk, which a socket does not', () => {
      const cutFrame = good.slice(0, 17);
      for (const junk of ['x', 'login: ', '\xff\xfe', cutFrame, 'V2 ', 'GET mot', ' ', good]) {
        assert.deepStrictEqual(onSerial(junk + good), motd, junk);
        assert.notDeepStrictEqual(onSocket(junk + good), motd, junk);
      }
    });

    it('finds a frame whose own code is V2', () => {
      const inner = frame(ID, 'V2', 'x').subarray(0, -1).toString('latin1');
      assert.deepStrictEqual(onSerial(`junk${inner}`), { kind: 'unknown', wire: V2, verb: 'V2' });
      assert.deepStrictEqual(onSerial(inner), { kind: 'unknown', wire: V2, verb: 'V2' });
    });

    it('is silent for a broken frame, with junk before it or without', () => {
      const wrong = good.replace('motd', 'motx').replace('bW90', 'bW91');
      for (const line of [
        wrong,
        `\0${wrong}`,
        `junk${wrong}`,
        `V2 1 ${wrong}`,
        good.slice(0, -1),
      ]) {
        assert.strictEqual(onSerial(line).kind, 'broken', line);
      }
    });

    it('reads a line without a frame as on a socket', () => {
      for (const line of ['KEYS', 'GET V2 key', 'NEGOTIATE V2 ', ' x', 'FOO', 'GET', 'V2']) {
        assert.deepStrictEqual(onSerial(line), onSocket(line), line);
      }
    });

    it('spends no more on a line full of frame starts than on any other', () => {
      const one = `V2 ${'9'.repeat(7)} 00000000 0 x `;
      const line = Buffer.from(one.repeat(60_000));
      const start = process.cpuUsage().user;
      assert.strictEqual(parseLine(line, 'serial').kind, 'broken');
      // To read to the end of the line for each of them would take minutes.
      assert(process.cpuUsage().user - start < 2_000_000);
    });
  });
});
