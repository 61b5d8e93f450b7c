/*
 * Runs one target: inputs from its corpus, changed, and new ones; keeps what reaches something new; stops
 * at the first fault, with its input made small. From the same seed, corpus and number of executions the
 * same run follows.
 *
 * Our own and not jazzer.js: the addon of its 4.0.0 needs glibc 2.38 (Debian 12 has 2.36) and is not published as
 * source, and 2.1.0 downloads its addon when it is installed.
 */
import { messageOf } from '../../src/lib/errors';
import { Draft, mutate } from './draft';
import { Features } from './features';
import { Random } from './random';
import { Wrong } from './target';
import type { Target } from './target';

/** Inputs that are changed further: more would only thin out the chances of each. */
const MOST_KEPT = 4096;
/** One input in so many is new; the others are changed ones. */
const NEW_ONE_IN = 5;
/** The clock is looked at once in so many executions. */
const BATCH = 256;

export interface Finding {
  readonly target: string;
  readonly message: string;
  readonly input: Buffer;
}

/** One run over one target, from a seed. */
export class Run {
  readonly features = new Features();
  executions = 0;
  finding: Finding | null = null;
  private readonly random: Random;
  private readonly draft = new Draft();
  private readonly kept: Buffer[] = [];

  constructor(
    readonly target: Target,
    seed: number,
  ) {
    this.random = new Random(seed, hashOf(target.name));
  }

  /** The inputs that reached something new when they came, the given ones first. */
  get corpus(): readonly Buffer[] {
    return this.kept;
  }

  /** Runs given inputs; those that reach something new are kept. */
  replay(inputs: readonly Buffer[]): void {
    for (const input of inputs) {
      if (!this.execute(input)) {
        return;
      }
    }
  }

  /** Goes on until the clock or the number of executions says so, or a fault is found. */
  go(untilMs: number, mostExecutions: number): void {
    const end = this.executions + mostExecutions;
    while (this.executions < end && performance.now() < untilMs) {
      const batch = Math.min(BATCH, end - this.executions);
      for (let i = 0; i < batch; i++) {
        if (!this.execute(this.make())) {
          return;
        }
      }
    }
  }

  private make(): Buffer {
    const { random, draft, kept, target } = this;
    const parent = kept[random.below(kept.length)];
    const other = kept[random.below(kept.length)];
    if (parent === undefined || other === undefined || random.oneIn(NEW_ONE_IN)) {
      target.generate(random, draft.clear());
    } else {
      draft.clear().append(parent);
      mutate(random, draft, other, target.words);
      target.repair?.(random, draft);
    }
    return draft.view();
  }

  /** @returns false at a fault */
  private execute(input: Buffer): boolean {
    this.executions++;
    try {
      this.target.run(input, this.features);
    } catch (err) {
      this.finding = this.findingOf(err, input);
      return false;
    }
    if (this.features.takeFresh() && this.kept.length < MOST_KEPT) {
      this.kept.push(Buffer.from(input));
    }
    return true;
  }

  private findingOf(err: unknown, input: Buffer): Finding {
    const rule = ruleOf(err);
    const scratch = new Features();
    const fails = (candidate: Buffer): boolean => {
      try {
        this.target.run(candidate, scratch);
        return false;
      } catch (again) {
        return ruleOf(again) === rule;
      }
    };
    const small = shrink(input, fails);
    let message = messageOf(err);
    try {
      this.target.run(small, scratch);
    } catch (again) {
      message = messageOf(again);
    }
    return { target: this.target.name, message, input: small };
  }
}

/** What went wrong, without the values that it went wrong with. */
function ruleOf(err: unknown): string {
  return err instanceof Wrong
    ? (err.message.split(':')[0] ?? '')
    : `threw ${String(err)}`.slice(0, 40);
}

function hashOf(name: string): number {
  return Buffer.from(name).reduce((hash, byte) => (Math.imul(hash, 33) ^ byte) | 0, 5381);
}

const MOST_ATTEMPTS = 20_000;
const PLAIN: readonly number[] = [0x61, 0x30, 0x20, 0x00];

/**
 * Makes a failing input small: cuts pieces out, large ones first, and turns bytes into plain ones, as long as it goes on
 * failing. Deterministic, and bounded.
 *
 * @param fails whether an input still shows the fault; the one given does
 */
export function shrink(input: Buffer, fails: (candidate: Buffer) => boolean): Buffer {
  let best: Buffer = Buffer.from(input);
  let attempts = 0;
  const accepts = (candidate: Buffer): boolean => {
    if (++attempts > MOST_ATTEMPTS || !fails(candidate)) {
      return false;
    }
    best = candidate;
    return true;
  };
  let shorter = true;
  while (shorter && attempts < MOST_ATTEMPTS) {
    shorter = false;
    for (let size = best.length >> 1; size >= 1; size >>= 1) {
      for (let at = 0; at + size <= best.length;) {
        const without = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
        if (accepts(without)) {
          shorter = true;
        } else {
          at += size;
        }
      }
    }
    for (let at = 0; at < best.length; at++) {
      for (const byte of PLAIN) {
        if (best[at] === byte) {
          break;
        }
        const simpler = Buffer.from(best);
        simpler[at] = byte;
        if (accepts(simpler)) {
          break;
        }
      }
    }
  }
  return best;
}
