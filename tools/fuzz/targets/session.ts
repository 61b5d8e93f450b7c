/*
 * Target `session`: whatever was on a serial line, a client that keeps to the protocol gets through.
 *
 * Input: a script of bytes, read as chunks that come with or without pauses. After it the client comes
 * as the platform's own does: newline, and again when the answer is another; NEGOTIATE; one GET. It must
 * be answered, and before that nothing may be answered that nobody asked for.
 */
import { RunQueue } from '../../../src/lib/scheduler';
import type { Stream } from '../../../src/platform/stream';
import type { LinkLimits, LinkObserver } from '../../../src/transport/link';
import { PortConnection } from '../../../src/transport/serial-input';
import { Watches } from '../../../src/transport/watches';
import { MemoryQuota, ZoneQuota } from '../../../src/transport/zone-quota';
import { magnitude, nameNumber } from '../features';
import type { Features } from '../features';
import { answerOf } from '../model/request';
import { frameOf, toBase64 } from '../model/wire';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { randomLine, WORDS } from './protocol-words';

const LIMITS: LinkLimits = {
  lineBytes: 256,
  replyBytes: 4096,
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
/** How many resets the client sends before it must be answered. */
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
  private readonly connection: PortConnection;

  constructor(private readonly features: Features) {
    const context = {
      handle: () => ({ kind: 'success', text: VALUE }) as const,
      observer: this,
      limits: LIMITS,
      // Whatever can be done is done at once.
      scheduler: {
        offer: (_queue: RunQueue, worker: PortConnection) => {
          while (worker.ready) {
            worker.work(1);
          }
        },
        withdraw: () => undefined,
      },
      queue: new RunQueue(),
      quota: new ZoneQuota(LIMITS, new MemoryQuota(() => Infinity)),
      watches: new Watches(() => ({ text: '', settled: true })),
      now: () => this.now,
    };
    const origin = { zonename: 'z', peer: null };
    this.connection = new PortConnection(this.stream(), origin, context, {
      dropped: () => undefined,
      closed: () => undefined,
    });
  }

  play(script: Buffer): void {
    let from = 0;
    for (let at = 0; at < script.length; at++) {
      const byte = script[at];
      if (byte === CUT || byte === PAUSE) {
        this.hear(script.subarray(from, at));
        this.now += byte === PAUSE ? ((script[++at] ?? 0) % 24) * 100 : 0;
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
    this.connection.closed();
  }

  opened(): void {
    throw new Wrong('nothing opens here');
  }

  closed(): void {
    throw new Wrong('nothing closes here');
  }

  received(): void {
    // Counted by play and hear.
  }

  sent(): void {
    // Counted by the stream.
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
    this.connection.data(chunk);
    if (this.connection.requestBytes > 2 * LIMITS.lineBytes) {
      throw new Wrong('what is held is bounded', { held: this.connection.requestBytes });
    }
  }

  /** One that takes whatever is written. */
  private stream(): Stream {
    const nothing = (): void => undefined;
    return {
      fd: undefined,
      buffered: 0,
      undelivered: 0,
      gone: false,
      needsDrain: false,
      paused: false,
      writable: true,
      start: nothing,
      write: (bytes) => {
        this.out += bytes.toString('latin1');
        this.written++;
      },
      reserve: () => true,
      fill: nothing,
      commit: nothing,
      pause: nothing,
      resume: nothing,
      end: nothing,
      destroy: nothing,
    };
  }
}
