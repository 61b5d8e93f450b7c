/*
 * Target `client`: our own client believes no server, and understands every honest one.
 *
 * Input: a byte for the command, one for how answers are cut, and what a lying server sends. A success
 * may only come of a frame with the right id, length and CRC. Afterwards an honest server answers the same
 * session, which must come to its end with the value that was sent.
 */
import { ClientSession } from '../../../src/protocol/client';
import type { Command, Outcome, Step } from '../../../src/protocol/client';
import { magnitude, nameNumber } from '../features';
import { answerOf, meaningOf } from '../model/request';
import { frameIn, frameOf, fromBase64, toBase64 } from '../model/wire';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { WORDS } from './protocol-words';

const KEY = Buffer.from('key');
const COMMANDS: readonly Command[] = [
  { kind: 'get', key: KEY },
  { kind: 'keys' },
  { kind: 'put', key: KEY, value: Buffer.from('v\n') },
  { kind: 'delete', key: KEY },
  { kind: 'get', key: Buffer.from('a\nb') },
];
const VALUES: readonly [string, ...string[]] = [
  '',
  'value',
  '.dot\n..\n',
  '\n\n',
  '\0',
  'caf\u00e9',
];
const ID = '0000000a';
/** An honest server needs no more than this. */
const MOST_STEPS = 12;

export const client: Target = {
  name: 'client',
  words: [
    ...WORDS,
    'invalid command\n',
    'V2_OK\n',
    'SUCCESS\n',
    'NOTFOUND\n',
    'FAILURE\n',
    `${frameOf(`${ID} SUCCESS dmFsdWU=`)}\n`,
    `${frameOf(`${ID} NOTFOUND`)}\n`,
    `${frameOf('0000000b SUCCESS dmFsdWU=')}\n`,
  ],

  generate(random, draft) {
    draft.byte(random.below(256)).byte(random.below(256));
    if (!random.oneIn(6)) {
      draft.latin1('invalid command\n');
    }
    draft.latin1(random.pick(['V2_OK\n', 'V2_OK\n', 'FAILURE\n', '']));
    const count = random.mostlySmall(5);
    for (let i = 0; i < count; i++) {
      draft.latin1(random.pick(this.words));
    }
  },

  run(input, features) {
    const command = COMMANDS[(input[0] ?? 0) % COMMANDS.length] ?? { kind: 'keys' };
    const size = 1 + ((input[1] ?? 0) % 40);
    const lies = input.subarray(2);
    const session = new ClientSession(() => ID);
    let step = session.ask(command);
    for (let at = 0; at < lies.length && step.kind !== 'done'; at += size) {
      step = session.receive(lies.subarray(at, at + size));
      if (step.kind === 'reopen') {
        step = session.ask(command);
      }
    }
    if (step.kind === 'done') {
      believed(step.outcome, lies);
      features.reach(91, nameNumber(step.outcome.kind), magnitude(lies.length));
    }
    const value = VALUES[(input[1] ?? 0) % VALUES.length] ?? '';
    honest(session, command, value, size);
    features.reach(90, nameNumber(step.kind), nameNumber(command.kind), magnitude(lies.length));
    features.reach(92, nameNumber(command.kind), magnitude(size));
  },
};

/** A success has its frame among the lines that came. */
function believed(outcome: Outcome, lies: Buffer): void {
  const lines = lies.toString('latin1').split('\n');
  if (outcome.kind !== 'success') {
    return;
  }
  const data = outcome.data.toString('latin1');
  const proof = lines.some((line) => {
    const frame = frameIn(line);
    return frame?.id === ID && frame.code === 'SUCCESS' && decodesTo(frame.payload, data);
  });
  if (!proof) {
    throw new Wrong('a success is proven', { data, lines });
  }
}

/** The client takes lenient base64: what a strict reader refuses proves nothing here. */
function decodesTo(payload: string, data: string): boolean {
  const strict = fromBase64(payload);
  return strict === null || strict === data;
}

function honest(session: ClientSession, command: Command, value: string, size: number): void {
  let step: Step = session.lost('connection closed');
  for (let i = 0; i < MOST_STEPS; i++) {
    if (step.kind === 'reopen') {
      step = session.ask(command);
      continue;
    }
    if (step.kind !== 'send') {
      break;
    }
    step = hear(session, serve(step.bytes, value), size);
  }
  if (step.kind !== 'done') {
    throw new Wrong('an honest server is understood', { step: step.kind });
  }
  const { outcome } = step;
  const actual = outcome.kind === 'success' ? outcome.data.toString('utf8') : outcome.kind;
  same('the value that was sent', actual, value);
}

function hear(session: ClientSession, answer: string, size: number): Step {
  const bytes = Buffer.from(answer, 'latin1');
  let step: Step = { kind: 'wait' };
  for (let at = 0; at < bytes.length && step.kind === 'wait'; at += size) {
    step = session.receive(bytes.subarray(at, at + size));
  }
  return step;
}

function serve(request: Buffer, value: string): string {
  const text = request.toString('latin1');
  if (text === '\n') {
    return 'invalid command\n';
  }
  if (text.startsWith('NEGOTIATE')) {
    return 'V2_OK\n';
  }
  const meaning = meaningOf(text.slice(0, -1));
  const key = toBase64('key');
  const known = [`get ${ID} key`, `keys ${ID}`, `delete ${ID} key`];
  const odd = [`put ${ID} key\0v\n`, `get ${ID} a\nb`];
  if (![...known, ...odd].includes(meaning)) {
    throw new Wrong('the client asks what it was given', { meaning, key });
  }
  return answerOf(ID, 'SUCCESS', value);
}
