/*
 * The guest's side of the protocol on one channel: one command after the other. transport/guest-channel.ts drives it;
 * it does no I/O and has no clock and no random source.
 *
 *     closed --ask--> resetting --invalid command--> negotiating --V2_OK----> asking (V2) <--ask--.
 *       ^                 |                              |  `---other line--> asking (V1) <--ask--|
 *       `---- reopen -----+---- time-out, hang-up, ------+--------------------- |                 |
 *                               wrong answer to a reset                         `--reply--> idle -'
 *
 * Each call says what to do next: send bytes and wait so long, close and come back, or take the outcome. Whoever wants
 * an answer asks again after a `reopen`, as the platform's client does: requests can be repeated safely.
 */
import { LineReader } from './line-reader';
import { buildFrame, readFrame } from './frame';

/** Time-outs of the platform's client, milliseconds without a byte (mdata-client, proto.c and plat/). */
const RESET_MS = 2_000;
const NEGOTIATE_MS = 6_000;
const REPLY_V1_MS = 6_000;
const REPLY_V2_MS = 45_000;
/** Pause after a reset that was not answered as it should be. */
const REOPEN_PAUSE_MS = 1_000;
/** A reply is bounded by what a zone may store (4 MiB), in base64, with room to spare. */
const MAX_REPLY_BYTES = 16 * 1024 * 1024;
const RESET = Buffer.from('\n', 'latin1');
const NEGOTIATE = Buffer.from('NEGOTIATE V2\n', 'latin1');
const LF = RESET;

/** Keys and values are bytes: whether they are UTF-8 is the server's to say. */
export type Command =
  | { readonly kind: 'get'; readonly key: Buffer }
  | { readonly kind: 'keys' }
  /** `onlyIf`: only where the key has this token, `-` where there is none. */
  | {
      readonly kind: 'put';
      readonly key: Buffer;
      readonly value: Buffer;
      readonly onlyIf?: string;
    }
  | { readonly kind: 'delete'; readonly key: Buffer; readonly onlyIf?: string }
  /** Waits up to `seconds` until the keys have another token; without keys, all that KEYS lists. */
  | {
      readonly kind: 'watch';
      readonly seconds: number;
      readonly token: string;
      readonly keys: readonly Buffer[];
    }
  | { readonly kind: 'getall' }
  | { readonly kind: 'hello' };

export type Outcome =
  | { readonly kind: 'success'; readonly data: Buffer }
  | { readonly kind: 'notfound' }
  | { readonly kind: 'failure'; readonly text: string }
  /** PUT or DELETE of a server, or a key with LF, that V1 has no request for. */
  | { readonly kind: 'unsupported' };

/** What to do next. */
export type Step =
  /** Send, then give up after `waitMs` without a byte. */
  | { readonly kind: 'send'; readonly bytes: Buffer; readonly waitMs: number }
  /** Go on reading. */
  | { readonly kind: 'wait' }
  /** Close the channel and open it anew after `pauseMs`. */
  | { readonly kind: 'reopen'; readonly pauseMs: number; readonly reason: string }
  | { readonly kind: 'done'; readonly outcome: Outcome };

type State = 'closed' | 'resetting' | 'negotiating' | 'asking' | 'idle';

const WAIT: Step = { kind: 'wait' };

/** A client's side of one connection. Pure: bytes in, bytes and results out. */
export class ClientSession {
  private lines = new LineReader(MAX_REPLY_BYTES);
  private state: State = 'closed';
  private version: 1 | 2 = 1;
  private command: Command = { kind: 'keys' };
  private id = '';
  /** Lines of a V1 value so far, one character a byte; null until `SUCCESS` came. */
  private value: string | null = null;

  /** @param freshId gives eight lower-case hex digits, others each time */
  constructor(private readonly freshId: () => string) {}

  /** Asks; on a channel that was just opened after a reset of whatever another client left on it. */
  ask(command: Command): Step {
    this.command = command;
    if (this.state === 'idle') {
      return this.send();
    }
    this.lines = new LineReader(MAX_REPLY_BYTES);
    this.state = 'resetting';
    return { kind: 'send', bytes: RESET, waitMs: RESET_MS };
  }

  /** Bytes came in. */
  receive(chunk: Buffer): Step {
    this.lines.push(chunk);
    for (let line = this.lines.next(); line !== null; line = this.lines.next()) {
      const step = line.kind === 'line' ? this.understand(line.bytes) : WAIT;
      if (step.kind !== 'wait') {
        return step;
      }
    }
    return WAIT;
  }

  /** Nothing came in the time given. */
  timedOut(): Step {
    return this.reopen('receive timeout');
  }

  /** The channel was closed by the other side, or failed. */
  hungUp(): Step {
    return this.reopen('connection closed');
  }

  private understand(line: Buffer): Step {
    switch (this.state) {
      case 'resetting':
        if (line.toString('latin1') !== 'invalid command') {
          return this.reopen('unexpected answer to a reset');
        }
        this.state = 'negotiating';
        return { kind: 'send', bytes: NEGOTIATE, waitMs: NEGOTIATE_MS };
      case 'negotiating':
        this.version = line.toString('latin1') === 'V2_OK' ? 2 : 1;
        return this.send();
      case 'asking':
        return this.version === 2 ? this.understandV2(line) : this.understandV1(line);
      case 'closed':
      case 'idle':
        return WAIT;
      default: {
        const never: never = this.state;
        return never;
      }
    }
  }

  private send(): Step {
    this.state = 'asking';
    this.value = null;
    if (this.version === 2) {
      // A new id each time: a late reply to an older request must not count as this one's.
      this.id = this.freshId();
      return { kind: 'send', bytes: encodeV2(this.command, this.id), waitMs: waitOf(this.command) };
    }
    const bytes = encodeV1(this.command);
    return bytes === null
      ? this.done({ kind: 'unsupported' })
      : { kind: 'send', bytes, waitMs: REPLY_V1_MS };
  }

  /** Noise and replies to others are passed over; the time-out deals with what never comes. */
  private understandV2(line: Buffer): Step {
    const frame = readFrame(line);
    if (frame.kind !== 'frame' || frame.id !== this.id) {
      return WAIT;
    }
    const data = Buffer.from(frame.payload.toString('latin1'), 'base64');
    switch (frame.code) {
      case 'SUCCESS':
        return this.done({ kind: 'success', data });
      case 'NOTFOUND':
        return this.done({ kind: 'notfound' });
      default:
        return this.done({ kind: 'failure', text: data.toString('utf8') });
    }
  }

  private understandV1(line: Buffer): Step {
    const text = line.toString('latin1');
    if (this.value === null) {
      switch (text) {
        case 'SUCCESS':
          this.value = '';
          return WAIT;
        case 'NOTFOUND':
          return this.done({ kind: 'notfound' });
        case 'FAILURE':
          return this.done({ kind: 'failure', text: '' });
        default:
          return this.reopen('unexpected answer to a request');
      }
    }
    if (text === '.') {
      return this.done({ kind: 'success', data: Buffer.from(this.value.slice(0, -1), 'latin1') });
    }
    // One that begins with a dot was sent with another.
    this.value += `${text.startsWith('.') ? text.slice(1) : text}\n`;
    return WAIT;
  }

  private done(outcome: Outcome): Step {
    this.state = 'idle';
    return { kind: 'done', outcome };
  }

  private reopen(reason: string): Step {
    const pauseMs = this.state === 'asking' ? 0 : REOPEN_PAUSE_MS;
    this.state = 'closed';
    return { kind: 'reopen', pauseMs, reason };
  }
}

/** A WATCH is silent for as long as it was asked to be. */
function waitOf(command: Command): number {
  return REPLY_V2_MS + (command.kind === 'watch' ? 1000 * command.seconds : 0);
}

/** A V2 request, LF included. Also for clients that keep to a session of their own. */
export function encodeV2(command: Command, id: string): Buffer {
  const isConditional = 'onlyIf' in command;
  const verb = `${command.kind.toUpperCase()}${isConditional ? 'IF' : ''}`;
  switch (command.kind) {
    case 'get':
      return buildFrame(id, verb, command.key);
    case 'put': {
      const { key, value, onlyIf } = command;
      const terms = `${key.toString('base64')} ${value.toString('base64')}`;
      return buildFrame(id, verb, onlyIf === undefined ? terms : `${terms} ${onlyIf}`);
    }
    case 'delete': {
      const { key, onlyIf } = command;
      const payload = onlyIf === undefined ? key : `${key.toString('base64')} ${onlyIf}`;
      return buildFrame(id, verb, payload);
    }
    case 'watch': {
      const keys = command.keys.map((key) => ` ${key.toString('base64')}`);
      return buildFrame(id, verb, `${command.seconds} ${command.token}${keys.join('')}`);
    }
    case 'keys':
    case 'getall':
    case 'hello':
      return buildFrame(id, verb, '');
    default: {
      const never: never = command;
      return never;
    }
  }
}

/** A V1 request, LF included; null where V1 has none. */
export function encodeV1(command: Command): Buffer | null {
  if (command.kind === 'keys') {
    return Buffer.from('KEYS\n', 'latin1');
  }
  return command.kind === 'get' && !command.key.includes(LF)
    ? Buffer.concat([Buffer.from('GET ', 'latin1'), command.key, LF])
    : null;
}
