/*
 * What the fuzzer can be pointed at: a part of the agent that turns bytes into something, and an
 * independent opinion of what that must be.
 */
import type { Draft } from './draft';
import type { Features } from './features';
import type { Random } from './random';

export interface Target {
  readonly name: string;
  /** Pieces that its inputs are made of. */
  readonly words: readonly [string, ...string[]];
  /** Makes an input from nothing, of the right shape for the most part. */
  generate(random: Random, draft: Draft): void;
  /** After a mutation: puts right what would otherwise be rejected at once (lengths, CRCs). */
  repair?(random: Random, draft: Draft): void;
  /** @throws Wrong where the code under test is wrong; anything else that is thrown is a finding too */
  run(input: Buffer, features: Features): void;
}

/** The code under test did not do what it must. The first words name the broken rule. */
export class Wrong extends Error {
  constructor(rule: string, detail: Readonly<Record<string, unknown>> = {}) {
    super(Object.keys(detail).length === 0 ? rule : `${rule}: ${JSON.stringify(detail)}`);
    this.name = 'Wrong';
  }
}

/** Throws unless both are the same text. */
export function same(rule: string, actual: string, expected: string): void {
  if (actual !== expected) {
    throw new Wrong(rule, { actual, expected });
  }
}
