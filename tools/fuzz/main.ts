#!/usr/bin/env node
/*
 * `npm run fuzz -- --seconds N [--seed S] [--target T]`: throws made-up input at the agent's parsers, and
 * at a whole agent on a simulated node, and compares what comes of it with independent models.
 *
 * Everything follows from the seed, which is printed first (of the whole agent: its steps, not what the
 * scheduler makes of them). Ends at the first fault, with status 1 and a test that shows it, or the steps
 * to `--replay`. Status 2 is wrong usage.
 */
import { Session } from 'node:inspector';
import { sep } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { fuzzWhole, replayFile } from './agent/report';
import { abandon } from './agent/run';
import { escape, readCorpus, writeCorpus } from './corpus';
import { clearProgress, elapsed, showProgress } from '../progress';
import { Run, type Finding } from './engine';
import type { Target } from './target';
import { findTarget, TARGETS } from './targets';
import { packageVersion } from '../../src/lib/version';

const EXIT_FAULT = 1;
const EXIT_USAGE = 2;
/** Turns are short, so that every target is reached early in a long run too. */
const TURN_MS = 2000;
/** The target that is no parser: the whole agent, on a simulated node. */
const AGENT = 'agent';
/** Without a target it gets this part of the time. */
const AGENT_SHARE = 1 / 3;

const STATS_HEADER = [
  'target'.padEnd(14),
  'executions'.padStart(12),
  'rate'.padStart(11),
  'features'.padStart(9),
  'corpus'.padStart(7),
].join(' ');

interface Options {
  readonly seconds: number;
  readonly executions: number;
  readonly seed: number;
  readonly target: string | undefined;
  readonly save: boolean | undefined;
  readonly replay: string | undefined;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError('a whole number is needed');
  }
  return value;
}

function parseArguments(argv: readonly string[]): Options {
  const names = [...TARGETS.map((target) => target.name), AGENT].join(', ');
  return new Command('fuzz')
    .description('throws made-up input at the agent')
    .version(packageVersion(), '--version', 'print the version')
    .option('--seconds <n>', 'for how long, all targets together', wholeNumber, 60)
    .addOption(
      new Option('--executions <n>', 'at most so many executions of each target')
        .argParser(wholeNumber)
        .default(Infinity, 'no limit'),
    )
    .option('--seed <n>', 'where chance starts', wholeNumber, Date.now() % 0x1_0000_0000)
    .option('--target <name>', `only one of: ${names}`)
    .option('--replay <file>', 'only execute the steps in the file, on the whole agent')
    .option('--save', 'keep the inputs that reach something new in test/corpus')
    .parse(argv)
    .opts<Options>();
}

/** Gives the targets turns until the time is over. @returns false at a fault */
function fuzz(targets: readonly Target[], options: Options): boolean {
  const runs = targets.map((target) => new Run(target, options.seed));
  const spent = new Map<Run, number>();
  const turn = (run: Run, work: () => void): void => {
    const all = runs.reduce((sum, { executions }) => sum + executions, 0);
    showProgress(`${run.target.name}: ${all} executions so far`);
    const before = performance.now();
    work();
    spent.set(run, (spent.get(run) ?? 0) + performance.now() - before);
  };
  for (const run of runs) {
    turn(run, () => run.replay(readCorpus(run.target.name)));
  }
  const end = performance.now() + options.seconds * 1000;
  const found = (): boolean => runs.some((run) => run.finding !== null);
  const unfinished = (): Run[] => runs.filter((run) => run.executions < options.executions);
  while (performance.now() < end && !found() && unfinished().length > 0) {
    for (const run of unfinished()) {
      const turnMs = Math.min(TURN_MS, (options.seconds * 1000) / runs.length);
      const until = Math.min(end, performance.now() + turnMs);
      turn(run, () => run.go(until, options.executions - run.executions));
    }
  }
  return conclude(runs, spent, options);
}

function conclude(
  runs: readonly Run[],
  spent: ReadonlyMap<Run, number>,
  options: Options,
): boolean {
  clearProgress();
  console.log(STATS_HEADER);
  for (const run of runs) {
    console.log(statsLine(run, spent.get(run) ?? 0));
  }
  const executions = runs.reduce((sum, run) => sum + run.executions, 0);
  const reached = runs.reduce((sum, run) => sum + run.features.reached, 0);
  const { reached: blocks } = coverageOf('src', () => {
    for (const run of runs) {
      new Run(run.target, options.seed).replay(run.corpus);
    }
  });
  console.log(
    `${executions} executions, ${reached} features, ${blocks} blocks of src/ reached in ${elapsed()}`,
  );
  for (const run of runs) {
    if (options.save === true) {
      writeCorpus(run.target.name, essential(run, options.seed));
    }
    if (run.finding !== null) {
      console.log(`\nFAULT\n${testCase(run.finding, options.seed)}`);
    }
  }
  return runs.every((run) => run.finding === null);
}

interface Coverage {
  /** Blocks of code in the agent's files that were run, and all of them in functions that V8 saw. */
  readonly reached: number;
  readonly blocks: number;
}

/**
 * Runs `work` and returns how much of the files below `directory` it reached, by V8's own block counters: read once over
 * a kept corpus, since counting during a whole run would slow it down.
 */
function coverageOf(directory: string, work: () => void): Coverage {
  const session = new Session();
  session.connect();
  const counts = { reached: 0, blocks: 0 };
  try {
    session.post('Profiler.enable');
    session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
    work();
    session.post('Profiler.takePreciseCoverage', (err, coverage) => {
      if (err !== null) {
        throw err;
      }
      for (const script of coverage.result) {
        if (
          !script.url.includes(`${sep}${directory}${sep}`) ||
          script.url.includes('node_modules')
        ) {
          continue;
        }
        for (const range of script.functions.flatMap((one) => one.ranges)) {
          counts.blocks++;
          counts.reached += range.count > 0 ? 1 : 0;
        }
      }
    });
    session.post('Profiler.stopPreciseCoverage');
  } finally {
    session.disconnect();
  }
  return counts;
}

/** The kept inputs that still reach something new when the shortest come first. */
function essential(run: Run, seed: number): readonly Buffer[] {
  const again = new Run(run.target, seed);
  again.replay([...run.corpus].sort((a, b) => a.length - b.length || a.compare(b)));
  return again.corpus;
}

/** A line of the table of what was run. @param ms how long it took */
function statsLine(run: Run, ms: number): string {
  const rate = Math.round((run.executions / Math.max(1, ms)) * 1000);
  const columns = [
    run.target.name.padEnd(14),
    String(run.executions).padStart(12),
    `${rate}/s`.padStart(11),
    String(run.features.reached).padStart(9),
    String(run.corpus.length).padStart(7),
  ];
  return columns.join(' ');
}

/** A test that holds the finding, as text to be pasted. */
function testCase({ target, message, input }: Finding, seed: number): string {
  const rule = message.split(':')[0] ?? message;
  const text = escape(input).replaceAll('\\', '\\\\').replaceAll("'", "\\'");
  return [
    `  // Found by: npm run fuzz -- --target ${target} --seed ${seed}`,
    `  // ${message.slice(0, 400)}`,
    `  it('${target}: ${rule.replaceAll("'", '')}', () => {`,
    `    holds('${target}', '${text}');`,
    '  });',
  ].join('\n');
}

async function run(options: Options): Promise<boolean> {
  const { target, seconds, seed } = options;
  if (options.replay !== undefined) {
    return replayFile(options.replay);
  }
  console.log(`seed ${seed}`);
  if (target === AGENT) {
    return fuzzWhole(seed, seconds);
  }
  const one = target === undefined ? undefined : findTarget(target);
  if (one !== undefined) {
    return fuzz([one], options);
  }
  const bytes = fuzz(TARGETS, { ...options, seconds: seconds * (1 - AGENT_SHARE) });
  return bytes && (await fuzzWhole(seed, seconds * AGENT_SHARE));
}

async function main(): Promise<void> {
  const options = parseArguments(process.argv);
  const { target } = options;
  if (target !== undefined && target !== AGENT && findTarget(target) === undefined) {
    console.error(`fuzz: no such target: ${target}`);
    process.exitCode = EXIT_USAGE;
    return;
  }
  // Whatever ends it, no process of a simulated node stays behind, and no mount.
  process.once('uncaughtException', (err) => {
    console.error(err);
    void abandon().finally(() => process.exit(EXIT_FAULT));
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => void abandon().finally(() => process.exit(EXIT_FAULT)));
  }
  if (!(await run(options))) {
    process.exitCode = EXIT_FAULT;
  }
}

void main();
