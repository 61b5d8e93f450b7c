/* Pieces of the protocol, and lines made of them, for the targets that read what guests send. */
import type { Draft } from '../draft';
import { crcText, frameOf, toBase64 } from '../model/wire';
import type { Random } from '../random';

export const WORDS: readonly [string, ...string[]] = [
  'V2 ',
  'GET ',
  'KEYS',
  'PUT ',
  'DELETE ',
  'NEGOTIATE V2',
  'SUCCESS ',
  'sdc:uuid',
  '__proto__',
  '\n',
  '\r\n',
  '\0',
  ' ',
  'cGF5',
  'Zm9vIFltRnk=',
  '==',
  '\xc3\xa9',
  '\xed\xa0\x80',
  '\xf4\x8f\xbf\xbf',
  '\xef\xbb\xbf',
  '1a2b3c4d',
  '9007199254740993',
  frameOf('1a2b3c4d KEYS'),
  frameOf('00000001 GET bW90ZA=='),
];

const CODES: readonly [string, ...string[]] = [
  'GET',
  'GET',
  'KEYS',
  'PUT',
  'PUT',
  'DELETE',
  'WATCH',
  'GETALL',
  'PUTIF',
  'DELETEIF',
  'HELLO',
  'V2',
  'get',
  'SUCCESS',
  'NOTFOUND',
];
const KEYS: readonly [string, ...string[]] = [
  'motd',
  'root_pw',
  'sdc:uuid',
  ' padded ',
  '__proto__',
  'two words',
  'caf\xc3\xa9',
  'a\nb',
  '\x7f',
  '\xff',
  '',
  'operator-script',
  'docker:cmd',
  '\xc2\xa0k',
  'k\xef\xbb\xbf',
  'k'.repeat(1024),
  'k'.repeat(1023) + '\xc3\xa9',
];

function randomId(random: Random): string {
  const id = random.next().toString(16);
  return random.oneIn(8) ? id.slice(0, 1 + random.below(8)) : id.padStart(8, '0');
}

/** Up to `most` bytes, mostly plain text. */
export function randomBytes(random: Random, most: number): string {
  const length = random.mostlySmall(most + 1);
  const narrow = random.oneIn(2);
  let text = '';
  for (let i = 0; i < length; i++) {
    text += String.fromCharCode(narrow ? 0x20 + random.below(0x60) : random.below(256));
  }
  return text;
}

function randomKey(random: Random): string {
  return random.oneIn(3) ? randomBytes(random, 24) : random.pick(KEYS);
}

/** A frame, whole for the most part; no LF. */
export function randomFrame(random: Random): string {
  const code = random.pick(CODES);
  const payload = randomPayload(random, code);
  const body = `${randomId(random)} ${code}${payload === '' ? '' : ` ${payload}`}`;
  return random.oneIn(16) ? `V2  ${body.length}  ${crcText(body)}   ${body}` : frameOf(body);
}

/** A line of any kind, no LF. */
export function randomLine(random: Random): string {
  switch (random.below(10)) {
    case 0:
      return '';
    case 1:
      return 'NEGOTIATE V2';
    case 2:
      return `GET ${randomKey(random)}`;
    case 3:
      return `KEYS${random.oneIn(2) ? ' x' : ''}`;
    case 4:
      return randomBytes(random, 64);
    case 5:
      return `${random.pick(WORDS)}${random.pick(WORDS)}`;
    case 6:
      return `${randomFrame(random)}${random.pick([' ', '\r', '\t ', '\0'])}`;
    default:
      return randomFrame(random);
  }
}

/** Gives each line that looks like a frame the length and the CRC of its body. */
export function repairFrames(draft: Draft): void {
  const text = draft.bytes.toString('latin1', 0, draft.length);
  if (!text.includes('V2 ')) {
    return;
  }
  const repaired = text.replace(/V2 [0-9]* [0-9a-f]* ([^\n]*)/g, (_, body: string) => {
    return frameOf(body);
  });
  draft.clear().latin1(repaired);
}

function randomToken(random: Random): string {
  const length = random.oneIn(8) ? 60 + random.below(10) : 32;
  return random.oneIn(4) ? random.pick(['-', '', '\x7f', 'a b']) : 'a'.repeat(length);
}

function randomPayload(random: Random, code: string): string {
  if (random.oneIn(12)) {
    return randomBytes(random, 32);
  }
  switch (code) {
    case 'PUT': {
      const terms = [randomKey(random), randomBytes(random, 200)].map(toBase64).join(' ');
      return toBase64(terms);
    }
    case 'KEYS':
    case 'GETALL':
    case 'HELLO':
      return '';
    case 'PUTIF': {
      const terms = [randomKey(random), randomBytes(random, 200)].map(toBase64).join(' ');
      return toBase64(`${terms} ${randomToken(random)}`);
    }
    case 'DELETEIF':
      return toBase64(`${toBase64(randomKey(random))} ${randomToken(random)}`);
    case 'WATCH': {
      const count = random.oneIn(16) ? 60 + random.below(10) : random.below(4);
      const keys = Array.from({ length: count }, () => ` ${toBase64(randomKey(random))}`);
      const seconds = random.pick(['1', '30', '300', '301', '0', '01', '-1', '1e2', '']);
      return toBase64(`${seconds} ${randomToken(random)}${keys.join('')}`);
    }
    default: {
      const payload = toBase64(randomKey(random));
      return random.oneIn(8) ? payload.replace(/=/g, '') : payload;
    }
  }
}
