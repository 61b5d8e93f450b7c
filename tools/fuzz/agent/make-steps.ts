/*
 * Makes the steps of a round from the seed and the round's number, and from nothing else. Every kind comes
 * often enough to meet every other.
 */
import type { Random } from '../random';
import { randomLine } from '../targets/protocol-words';
import { CONFIGS, CONTENTS, FAULTS, FILES, SOCKET_ACTS, ZONE_ACTS, type Step } from './step';
import { CANARY, HEALTHY, SUFFERING, uuidOf, type Sufferer } from './zones';

type Maker = (random: Random, zone: Sufferer) => Step;

/** Each with its weight. */
const MAKERS: readonly (readonly [number, Maker])[] = [
  [12, randomBytes],
  [6, (random, zone) => ({ kind: 'zone', zone, act: random.pick(ZONE_ACTS) })],
  [6, (random, zone) => ({ kind: 'object', zone, seed: random.next() })],
  [6, (random, zone) => ({ kind: 'fault', zone, text: random.pick(FAULTS) })],
  [4, randomFile],
  [4, randomWrite],
  [4, randomWatch],
  [2, (random) => ({ kind: 'tell', zone: random.pick(HEALTHY) })],
  [2, (random, zone) => ({ kind: 'socket', zone, act: random.pick(SOCKET_ACTS) })],
  [2, (random, zone) => ({ kind: 'connect', zone, count: 1 + random.below(80) })],
  [2, (random) => ({ kind: 'stream', bytes: `${randomLie(random)}\n` })],
  [2, () => ({ kind: 'clear' })],
  [2, (random) => ({ kind: 'pause', ms: random.mostlySmall(400) })],
  [1, (random) => ({ kind: 'config', content: random.pick(CONFIGS) })],
  [1, randomSignal],
];

/** The steps of one run; the same seed gives the same. */
export function makeSteps(random: Random, count: number): Step[] {
  return Array.from({ length: count }, () => makeStep(random));
}

function makeStep(random: Random): Step {
  const zone = random.pick(SUFFERING);
  let left = random.below(MAKERS.reduce((sum, [weight]) => sum + weight, 0));
  for (const [weight, make] of MAKERS) {
    left -= weight;
    if (left < 0) {
      return make(random, zone);
    }
  }
  return { kind: 'clear' };
}

/** Requests mixed with junk, some cut anywhere, in pieces of any size. */
function randomBytes(random: Random, zone: Sufferer): Step {
  const lines = Array.from({ length: 1 + random.below(12) }, () => randomLine(random));
  const bytes = lines.join('\n') + (random.oneIn(4) ? '' : '\n');
  return {
    kind: 'bytes',
    zone,
    bytes: random.oneIn(6) ? bytes.slice(0, random.below(bytes.length + 1)) : bytes,
    times: random.oneIn(8) ? 1 + random.below(2000) : 1,
    chunk: random.oneIn(3) ? 1 + random.below(20) : 65536,
    end: random.pick(['leave', 'finish', 'destroy']),
  };
}

function randomFile(random: Random, zone: Sufferer): Step {
  return { kind: 'file', zone, file: random.pick(FILES), content: random.pick(CONTENTS) };
}

function randomWrite(random: Random, zone: Sufferer): Step {
  return {
    kind: 'write',
    zone: random.oneIn(2) ? random.pick(HEALTHY) : zone,
    count: 1 + random.mostlySmall(40),
  };
}

function randomWatch(random: Random, zone: Sufferer): Step {
  return {
    kind: 'watch',
    zone,
    count: 1 + random.mostlySmall(40),
    end: random.pick(['leave', 'ask', 'reset', 'destroy']),
  };
}

function randomSignal(random: Random): Step {
  return {
    kind: 'agent',
    signal: random.pick(['SIGKILL', 'SIGTERM', 'SIGHUP']),
    againMs: random.oneIn(3) ? 1 + random.below(400) : 0,
  };
}

/** What vminfod should not say, of the zones that suffer or of none. */
function randomLie(random: Random): string {
  const zonename = uuidOf(random.pick(SUFFERING));
  switch (random.below(8)) {
    case 0:
      return JSON.stringify({ type: 'delete', zonename });
    case 1:
      return JSON.stringify({ type: 'modify', zonename, vm: null });
    case 2:
      return JSON.stringify({ type: 'create', zonename, vm: { zonename, uuid: `../${CANARY}` } });
    case 3:
      return JSON.stringify({ type: 'modify', zonename: '__proto__', vm: { zonename: '..' } });
    case 4:
      return `{"type":"modify","vm":{"${CANARY}":"${CANARY}`;
    default:
      return randomLine(random);
  }
}
