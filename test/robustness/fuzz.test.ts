/*
 * The fuzzer's targets on what it has kept from long runs, and on a few thousand new inputs each. Every
 * fault that it ever found stays here by name.
 */
import assert from 'node:assert';
import { Features } from '../../tools/fuzz/features';
import { escape, readCorpus, unescape } from '../../tools/fuzz/corpus';
import { Run, shrink } from '../../tools/fuzz/engine';
import { same } from '../../tools/fuzz/target';
import type { Target } from '../../tools/fuzz/target';
import { findTarget, TARGETS } from '../../tools/fuzz/targets';

const NEW_INPUTS = 3000;
const SEED = 20260321;

/** The target has nothing to say against an input, given as the corpus writes it. */
function holds(name: string, input: string): void {
  const target = findTarget(name);
  assert(target !== undefined);
  target.run(unescape(input), new Features());
}

describe('fuzzing the parsers', () => {
  for (const target of TARGETS) {
    it(`finds nothing wrong with ${target.name}, on kept inputs and on new ones`, () => {
      const corpus = readCorpus(target.name);
      assert(corpus.length > 0, 'the corpus is committed');
      const run = new Run(target, SEED);
      run.replay(corpus);
      run.go(Infinity, NEW_INPUTS);
      assert.strictEqual(run.finding, null);
      assert.strictEqual(run.executions, corpus.length + NEW_INPUTS);
    });
  }
});

describe('faults that fuzzing found', () => {
  it('ready-line: a newline before the list of VMs ends the first line', () => {
    holds('ready-line', 'a{"type":"ready","":"","vms":\\x0a"[{\\x5c"\\x5c"}]"}\\x0a');
  });

  it('ready-line: whether a line that begins with a blank is accepted does not depend on its pieces', () => {
    holds('ready-line', '\\x00 {"type":"ready","":"","vms":"[{\\x5c"\\x5c"}]"}\\x0a');
  });
});

describe('the fuzzer', () => {
  const broken: Target = {
    name: 'broken',
    words: ['x'],
    generate: (random, draft) => draft.byte(random.below(256)),
    run(input, features) {
      features.reach(1, input.length, input[0] ?? 0);
      same('no q after an x', /x.*q/s.test(input.toString('latin1')) ? 'xq' : '', '');
    },
  };

  it('finds a fault, and makes the input that shows it small', () => {
    const run = new Run(broken, SEED);
    run.go(Infinity, 1_000_000);
    assert.strictEqual(run.finding?.input.toString('latin1'), 'xq');
    assert.match(run.finding.message, /^no q after an x/);
  });

  it('does the same again from the same seed, and something else from another', () => {
    const corpusOf = (seed: number): string[] => {
      const run = new Run(TARGETS[1] ?? broken, seed);
      run.go(Infinity, 2000);
      return run.corpus.map(escape);
    };
    assert.deepStrictEqual(corpusOf(1), corpusOf(1));
    assert.notDeepStrictEqual(corpusOf(1), corpusOf(2));
  });

  it('keeps inputs as text that gives the same bytes back', () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    assert.deepStrictEqual(unescape(escape(all)), all);
    assert.doesNotMatch(escape(all), /[^ -~]/);
  });

  it('shrinks to the smallest and plainest input that still fails', () => {
    const small = shrink(Buffer.from('some long text with a ! in it'), (candidate) => {
      return candidate.includes(0x21);
    });
    assert.strictEqual(small.toString(), '!');
  });
});
