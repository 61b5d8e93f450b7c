/*
 * Target `tokens`: two VMs have the same token for some keys exactly where a GET of each of these keys is answered
 * the same by both, and of all keys where KEYS and each of its keys are.
 *
 * The input makes both VMs; the second one is a copy of the first for the most part, so that they are alike.
 */
import { magnitude } from '../features';
import { get, keys as keysOf, type ModelVm } from '../model/keys';
import { same, Wrong, type Target } from '../target';
import { buildVm, KEYS, NAMES, SECRET } from './answer-input';
import { Choices } from './choices';
import { ModelData } from './model-data';

const MOST_KEYS = 5;

export const tokens: Target = {
  name: 'tokens',
  words: [...KEYS, ...NAMES.map((name) => `sdc:${name}`)],

  generate(random, draft) {
    const length = random.mostlySmall(256);
    for (let i = 0; i < length; i++) {
      draft.byte(random.below(random.oneIn(2) ? 40 : 256));
    }
  },

  run(input, features) {
    const choices = new Choices(input);
    const isCopy = choices.below(2) === 0;
    const all = choices.below(4) === 0;
    const picked = Array.from({ length: choices.below(MOST_KEYS) }, () => {
      return choices.below(2) === 0 ? choices.pick(KEYS) : `sdc:${choices.pick(NAMES)}`;
    });
    const first = buildVm(choices);
    const second = isCopy ? changed(first, choices) : buildVm(choices);
    const names = all ? null : [...new Set(picked)].sort();
    const told = [first, second].map((vm) => tokenOf(vm, names));
    const answers = [first, second].map((vm) => {
      const listed = keysOf(vm).slice(1);
      const keys = names ?? (listed === '' ? [] : listed.split('\n').sort());
      return JSON.stringify(keys.map((key) => [key, get(vm, key)]));
    });
    const isSame = answers[0] === answers[1];
    same('the same tokens', String(told[0] === told[1]), String(isSame));
    if (!/^[0-9a-f]{32}$/.test(told.join('').slice(0, 32))) {
      throw new Wrong('a token is 32 hex digits', { told });
    }
    features.reach(90, isSame ? 1 : 0, isCopy ? 1 : 0, all ? 1 : 0);
    features.reach(91, magnitude(answers[0]?.length ?? 0), picked.length, isSame ? 1 : 0);
  },
};

/** A copy with one key of the customer's that is another, or none. */
function changed(vm: ModelVm, choices: Choices): ModelVm {
  const customer = new Map(vm.customer);
  if (choices.below(2) === 1) {
    customer.set(choices.pick(KEYS), choices.text());
  }
  return { ...vm, customer, internal: new Map([...vm.internal, ['hidden', `${SECRET}2`]]) };
}

function tokenOf(vm: ModelVm, keys: readonly string[] | null): string {
  const request = { kind: 'watch', wire: { version: 1 }, seconds: 1, token: '-', keys } as const;
  const reply = new ModelData(vm).answer(request);
  if (reply instanceof Promise) {
    throw new Wrong('a WATCH of little is answered at once', {});
  }
  if (reply.kind !== 'success') {
    throw new Wrong('a WATCH has a token', { kind: reply.kind });
  }
  return reply.text.toString();
}
