/*
 * The guest's side of the protocol on one channel, V2 only: one command after the other. transport/guest-channel.ts
 * drives it; it does no I/O and has no clock and no random source.
 *
 *     closed --ask--> resetting --invalid command--> negotiating --V2_OK--> asking <--ask-- idle
 *       ^                 |                              |                   |  `---reply---^
 *       `---- reopen -----+---- time-out, hang-up, ------+-------------------'
 *                               wrong answer to a reset
 *
 * Whoever wants an answer asks again after a `reopen`, as the platform's client does: requests can be repeated safely.
 */
import { LineReader } from './line-reader';
import { buildFrame, readFrame } from './frame';

/** Time-outs of the platform's client, without a byte (mdata-client, proto.c and plat/). */
const RESET_MS = 2_000;
const NEGOTIATE_MS = 6_000;
const REPLY_MS = 45_000;
/** Pause after a reset that was not answered as it should be. */
const REOPEN_PAUSE_MS = 1_000;
/** A reply is bounded by what a zone may store (4 MiB), in base64, with room to spare. */
const MAX_REPLY_BYTES = 16 * 1024 * 1024;
const RESET = Buffer.from('\n', 'latin1');
const NEGOTIATE = Buffer.from('NEGOTIATE V2\n', 'latin1');

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
  | { readonly kind: 'failure'; readonly text: string };

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
const NO_V2: Outcome = {
  kind: 'failure',
  text: 'the metadata service does not speak version 2 of the protocol',
};

/** A client's side of one connection. */
export class ClientSession {
  private lines = new LineReader(MAX_REPLY_BYTES);
  private state: State = 'closed';
  private command: Command = { kind: 'keys' };
  private id = '';

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

  /** Nothing came in the time given, or the channel was closed, or failed. */
  lost(reason: string): Step {
    const pauseMs = this.state === 'asking' ? 0 : REOPEN_PAUSE_MS;
    this.state = 'closed';
    return { kind: 'reopen', pauseMs, reason };
  }

  private understand(line: Buffer): Step {
    switch (this.state) {
      case 'resetting':
        if (line.toString('latin1') !== 'invalid command') {
          return this.lost('unexpected answer to a reset');
        }
        this.state = 'negotiating';
        return { kind: 'send', bytes: NEGOTIATE, waitMs: NEGOTIATE_MS };
      case 'negotiating':
        if (line.toString('latin1') === 'V2_OK') {
          return this.send();
        }
        this.state = 'closed';
        return { kind: 'done', outcome: NO_V2 };
      case 'asking':
        return this.understandReply(line);
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
    // A new id each time: a late reply to an older request must not count as this one's.
    this.id = this.freshId();
    const { command } = this;
    // A WATCH is silent for as long as it was asked to be.
    const waitMs = REPLY_MS + (command.kind === 'watch' ? 1000 * command.seconds : 0);
    return { kind: 'send', bytes: encodeV2(command, this.id), waitMs };
  }

  /** Noise and replies to others are passed over; the time-out deals with what never comes. */
  private understandReply(line: Buffer): Step {
    const frame = readFrame(line);
    if (frame.kind !== 'frame' || frame.id !== this.id) {
      return WAIT;
    }
    this.state = 'idle';
    const data = Buffer.from(frame.payload.toString('latin1'), 'base64');
    return { kind: 'done', outcome: outcomeOf(frame.code, data) };
  }
}

function outcomeOf(code: string, data: Buffer): Outcome {
  switch (code) {
    case 'SUCCESS':
      return { kind: 'success', data };
    case 'NOTFOUND':
      return { kind: 'notfound' };
    default:
      return { kind: 'failure', text: data.toString('utf8') };
  }
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
