/* The whole agent's part of the command line: what is said of a run, and of a fault that it found. */
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { counted } from '../../../src/admin/format';
import { clearProgress } from '../../progress';
import { NoNode } from './node';
import { fuzzAgent, replay, whyNoAgent, type AgentStats, type AgentFinding } from './run';
import { parseSteps, printSteps } from './step';

/** @returns false at a fault; where no agent can be run that is said, and is a fault in CI alone */
export async function fuzzWhole(seed: number, seconds: number): Promise<boolean> {
  const missing = whyNoAgent();
  if (missing !== null) {
    return leaveOut(missing);
  }
  try {
    const { stats, finding } = await fuzzAgent(seed, performance.now() + seconds * 1000);
    clearProgress();
    console.log(statsLine(stats));
    if (finding !== null) {
      reportFinding(finding, seed);
    }
    return finding === null;
  } catch (err) {
    if (!(err instanceof NoNode)) {
      throw err;
    }
    return leaveOut(`no node can be simulated here: ${err.message}`);
  }
}

function leaveOut(why: string): boolean {
  const inCi = process.env.CI !== undefined;
  console.log(`agent: left out, ${why}${inCi ? '; in CI it must not be' : ''}`);
  return !inCi;
}

/** @returns false where the steps show a fault */
export async function replayFile(path: string): Promise<boolean> {
  const broken = await replay(parseSteps(readFileSync(path, 'utf8')));
  console.log(broken === null ? 'nothing was broken' : `FAULT\n${broken}`);
  return broken === null;
}

function statsLine({ rounds, steps, checks, slowestMs, messages }: AgentStats): string {
  const records = `${messages.size} kinds of log records reached`;
  const slowest = `slowest answer to a healthy zone ${Math.ceil(slowestMs)} ms`;
  return `agent: ${counted(steps, 'step')} in ${counted(rounds, 'round')}, ${counted(checks, 'check')}, ${records}, ${slowest}`;
}

function reportFinding({ message, steps, again }: AgentFinding, seed: number): void {
  const path = join(tmpdir(), `fuzz-agent-${seed}.json`);
  writeFileSync(path, printSteps(steps));
  console.log(`\n${printSteps(steps)}`);
  console.log(`FAULT\n${message}`);
  if (!again) {
    console.log('A replay did not reproduce it: it depends on timing.');
  }
  console.log(`The steps are in ${path}: npm run fuzz -- --replay ${path}`);
  console.log('Once fixed, put the file into test/corpus/agent: the tests replay what is there.');
}
