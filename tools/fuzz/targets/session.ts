/*
 * Target `session`: whatever was on a serial line, a client that keeps to the protocol gets through.
 *
 * Input: a script of bytes, read as chunks that come with or without pauses. After it the client comes
 * as the platform's own does: newline, and again when the answer is another; NEGOTIATE; one GET. It must
 * be answered, and before that nothing may be answered that nobody asked for.
 */
import { Watches } from '../../../src/transport/watches';
import { ReplyQueue } from '../../../src/transport/reply-queue';
import { ReplySizes } from '../../../src/transport/zone-quota';
import { RequestReader } from '../../../src/transport/request-reader';
import type { LinkLimits } from '../../../src/transport/limits';
import type { LinkObserver } from '../../../src/transport/link';
import { magnitude, nameNumber } from '../features';
import type { Features } from '../features';
import { answerOf } from '../model/request';
import { frameOf, toBase64 } from '../model/wire';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { randomLine, WORDS } from './protocol-words';

const LIMITS: LinkLimits = {
  lineBytes: 256,
  unsentBytes: 4096,
  queuedRequests: 4,
  connections: 1,
  idleMs: 60_000,
};
/** A byte of the script that means "a pause of this many tenths of a second" with the one behind it. */
const PAUSE = 0xfe;
/** Cuts a chunk. */
const CUT = 0xfd;
const CLIENT_ID = 'dc4fae17';
const VALUE = 'the value';
/** The client's patience: how often it resets before it has to be answered. */
const RESETS = 2;

export const session: Target = {
  name: 'session',
  words: [...WORDS, '\xfe\x0b', '\xfe\x03', '\xfd', 'V2 9 '],

  generate(random, draft) {
    const count = random.mostlySmall(12);
    for (let i = 0; i < count; i++) {
      draft.latin1(randomLine(random));
      switch (random.below(5)) {
        case 0:
          draft.byte(PAUSE).byte(random.below(24));
          break;
        case 1:
          draft.byte(CUT);
          break;
        default:
          draft.byte(0x0a);
      }
    }
  },

  run(input, features) {
    const line = new Line(features);
    try {
      line.play(input);
      line.client();
    } finally {
      line.end();
    }
  },
};

/** A port with somebody at its other end. */
class Line implements LinkObserver {
  private now = 0;
  private out = '';
  private written = 0;
  private asked = 0;
  private readonly features: Features;
  private readonly answers: ReplyQueue;
  private readonly intake: RequestReader;

  constructor(features: Features) {
    this.features = features;
    const clock = (): number => this.now;
    this.answers = new ReplyQueue({
      origin: { zonename: 'z', peer: null },
      handle: () => ({ kind: 'success', text: VALUE }),
      observer: this,
      limits: LIMITS,
      sink: {
        clear: true,
        open: true,
        sizes: new ReplySizes(),
        fits: () => true,
        keep: () => undefined,
        release: () => undefined,
        write: (bytes) => {
          this.out += bytes.toString('latin1');
          this.written++;
        },
        reserve: () => undefined,
        fill: () => undefined,
        commit: () => undefined,
      },
      watches: new Watches(() => ({ text: '', settled: true })),
      now: clock,
      moved: () => undefined,
    });
    this.intake = new RequestReader({
      channel: 'serial',
      limits: LIMITS,
      observer: this,
      answers: this.answers,
      now: clock,
    });
  }

  play(script: Buffer): void {
    let from = 0;
    for (let at = 0; at < script.length; at++) {
      const octet = script[at];
      if (octet === CUT || octet === PAUSE) {
        this.hear(script.subarray(from, at));
        this.now += octet === PAUSE ? ((script[++at] ?? 0) % 24) * 100 : 0;
        from = at + 1;
      }
    }
    this.hear(script.subarray(from));
    if (this.written > this.asked) {
      throw new Wrong('one answer a line at most', { written: this.written, lines: this.asked });
    }
  }

  client(): void {
    let resets = 0;
    do {
      if (++resets > RESETS) {
        throw new Wrong('a reset is answered', { out: this.out });
      }
      this.now += 2000;
      this.out = '';
      this.hear(Buffer.from('\n'));
    } while (this.out !== 'invalid command\n');
    this.out = '';
    this.hear(Buffer.from('NEGOTIATE V2\n'));
    same('NEGOTIATE is answered', this.out, 'V2_OK\n');
    this.out = '';
    this.hear(Buffer.from(`${frameOf(`${CLIENT_ID} GET ${toBase64('key')}`)}\n`, 'latin1'));
    same('a frame is answered', this.out, answerOf(CLIENT_ID, 'SUCCESS', VALUE));
    this.features.reach(40, resets, magnitude(this.asked), magnitude(this.written));
  }

  end(): void {
    this.intake.stop();
  }

  opened(): void {
    throw new Wrong('nothing opens here');
  }

  closed(): void {
    throw new Wrong('nothing closes here');
  }

  received(): void {
    throw new Wrong('the connection counts what it receives');
  }

  sent(): void {
    throw new Wrong('the connection counts what it sends');
  }

  answered(_origin: unknown, request: { readonly kind: string }): void {
    this.features.reach(41, nameNumber(request.kind), magnitude(this.written));
  }

  refused(reason: string): void {
    this.features.reach(42, nameNumber(reason), Math.min(this.asked, 32));
  }

  private hear(chunk: Buffer): void {
    if (chunk.length === 0) {
      return;
    }
    for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, at + 1)) {
      this.asked++;
    }
    this.intake.push(chunk, this.now);
    while (this.intake.next() !== null) {
      // Each line is answered, dropped or met with silence by the time it was taken.
    }
    this.intake.keep();
    if (this.intake.heldBytes > LIMITS.lineBytes) {
      throw new Wrong('an unfinished line is bounded', { held: this.intake.heldBytes });
    }
  }
}
