/*
 * Fuzzes the whole agent: made-up bytes, lives of zones, VM objects, files and faults against a real agent
 * on a simulated node. The steps follow from the seed; how the machine's scheduler mixes them does not, so a
 * fault is shown by its steps, which are shortened as far as they go on showing it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../../src/lib/errors';
import { ControlError } from '../../simcn/control';
import { showProgress } from '../../progress';
import { Random } from '../random';
import { Broken, BOUNDS, SHORT_BOUNDS, type Bounds } from './bounds';
import { checkPromises, settle } from './inspect';
import { makeSteps } from './make-steps';
import { NoNode } from './node';
import { Stage } from './stage';
import type { Step } from './step';

/** Healthy zones are looked at after so many steps, and everything after a whole round. */
const STEPS_A_CHECK = 5;
const STEPS_A_ROUND = 150;
/** For the shortening of a fault's steps: a replay takes seconds. */
const SHORTEN_MS = 120_000;
const NATIVE = join(__dirname, '..', '..', '..', '..', 'native', 'build', 'Release', 'zexec');

export interface AgentFinding {
  readonly message: string;
  readonly steps: readonly Step[];
  /** Whether a replay showed it again, so that the steps could be made fewer. */
  readonly again: boolean;
}

export interface AgentStats {
  rounds: number;
  steps: number;
  checks: number;
  /** Of all answers to healthy zones, ms. */
  slowestMs: number;
  /** What the agent has said at least once. */
  readonly messages: Set<string>;
}

export interface AgentRun {
  readonly stats: AgentStats;
  readonly finding: AgentFinding | null;
}

/** The stage that is up now: an end from outside must take it down. */
let current: Stage | null = null;
let abandoned = false;

/** Why no agent can be run here; null where it can. */
export function whyNoAgent(): string | null {
  if (process.geteuid?.() !== 0) {
    return 'an ordinary user cannot mount';
  }
  return existsSync(NATIVE) ? null : 'the native code is not built';
}

/** Carries out round after round. @throws NoNode where not even the first one has a node */
export async function fuzzAgent(seed: number, untilMs: number): Promise<AgentRun> {
  const stats = newStats();
  while (performance.now() < untilMs) {
    const steps = makeSteps(new Random(seed, stats.rounds), STEPS_A_ROUND);
    const before = stats.steps;
    const message = await play(steps, BOUNDS, stats, untilMs);
    if (message !== null) {
      const shown = await shortened(message, steps.slice(0, stats.steps - before));
      return { stats, finding: { message, ...shown } };
    }
    stats.rounds++;
  }
  return { stats, finding: null };
}

/** @returns what was broken, null when nothing was */
export function replay(steps: readonly Step[], bounds = BOUNDS): Promise<string | null> {
  return play(steps, bounds, newStats(), Infinity);
}

/** Takes down what is up, and lets nothing more come up; for the end of this process. */
export async function abandon(): Promise<void> {
  abandoned = true;
  await current?.stop();
}

/** One round on a node of its own. @returns what was broken, null when nothing was */
async function play(
  steps: readonly Step[],
  bounds: Bounds,
  stats: AgentStats,
  untilMs: number,
): Promise<string | null> {
  await stillWanted();
  const stage = new Stage(stats.messages);
  current = stage;
  const checkNow = async (): Promise<void> => {
    stats.checks++;
    showProgress(`agent: ${stats.steps} steps so far`);
    stats.slowestMs = Math.max(stats.slowestMs, await checkPromises(stage, bounds));
  };
  try {
    await stage.start();
    for (const step of steps) {
      if (performance.now() >= untilMs) {
        break;
      }
      stats.steps++;
      await stage.carryOut(step);
      if (stats.steps % STEPS_A_CHECK === 0) {
        await checkNow();
      }
    }
    await checkNow();
    await settle(stage, bounds);
    await stage.agent.end('SIGTERM');
    return null;
  } catch (err) {
    // A node that fails in the middle is a fault too, though not the agent's.
    const ofNode = err instanceof NoNode || err instanceof ControlError;
    if (err instanceof Broken || (ofNode && stats.steps > 0)) {
      return messageOf(err);
    }
    throw err;
  } finally {
    await stage.stop();
    current = null;
    await stillWanted();
  }
}

/** Never resolves in a process that is about to end: what its last round finds out is nobody's concern. */
async function stillWanted(): Promise<void> {
  if (abandoned) {
    await new Promise(() => undefined);
  }
}

async function shortened(
  message: string,
  steps: readonly Step[],
): Promise<{ readonly steps: readonly Step[]; readonly again: boolean }> {
  const rule = ruleOf(message);
  const fails = async (fewer: readonly Step[]): Promise<boolean> => {
    const broken = await replay(fewer, SHORT_BOUNDS);
    return broken !== null && ruleOf(broken) === rule;
  };
  const until = performance.now() + SHORTEN_MS;
  if (!(await fails(steps))) {
    return { steps, again: false };
  }
  return { steps: await shorten(steps, fails, until), again: true };
}

/** What went wrong, without the numbers that it went wrong with. */
function ruleOf(message: string): string {
  return message.replace(/[0-9]+/g, '').slice(0, 30);
}

function newStats(): AgentStats {
  return { rounds: 0, steps: 0, checks: 0, slowestMs: 0, messages: new Set() };
}

/**
 * Makes a list of steps that shows a fault shorter: leaves pieces out, large ones first.
 *
 * Not fast-check's model commands: they would replace these lines alone, want a class with a model for each of
 * the 13 kinds of steps, and have no bound in time for replays that take seconds each.
 *
 * @param fails whether steps show the fault; those given do
 * @param untilMs when it is enough, on the clock of performance.now()
 */
export async function shorten<T>(
  steps: readonly T[],
  fails: (steps: readonly T[]) => Promise<boolean>,
  untilMs: number,
): Promise<readonly T[]> {
  let best = steps;
  for (let size = Math.ceil(best.length / 2); size >= 1; size = size === 1 ? 0 : (size + 1) >> 1) {
    for (let at = 0; at < best.length && performance.now() < untilMs;) {
      const without = [...best.slice(0, at), ...best.slice(at + size)];
      if (await fails(without)) {
        best = without;
      } else {
        at += size;
      }
    }
  }
  return best;
}
