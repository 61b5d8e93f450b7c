/*
 * `npm run bench`: how fast and how small the agent is, against the floor of node:net and the goals.
 *
 *   --quick         fewer and shorter runs: a minute or two on an idle machine
 *   --smoke         smallest of all: shows that all of it works, says nothing of speed
 *   --json FILE     writes what was measured
 *   --html FILE     writes it as one page with plots
 *   --baseline FILE compares with what an earlier run wrote
 *
 * Exit status: 0 measured, whatever the results; 1 something failed; 2 wrong usage.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { messageOf } from '../../src/lib/errors';
import type { Scale } from './instruments';
import { Processes } from './processes';
import { headOf, lineOf, parseReport, reportOf, type Row } from './report';
import { Bench } from './bench';
import { pageOf } from './page';
import { clearProgress, elapsed, showProgress } from '../progress';
import { packageVersion } from '../../src/lib/version';

const SCALES = {
  full: {
    ...{ pairs: 7, seconds: 3, starts: 5 },
    ...{ manyZones: 4096, idleZones: 1024, settleSeconds: 15, idleSeconds: 60 },
    burst: 1000,
    judged: true,
  },
  quick: {
    ...{ pairs: 3, seconds: 0.5, starts: 1 },
    ...{ manyZones: 1024, idleZones: 256, settleSeconds: 1.5, idleSeconds: 5 },
    burst: 200,
    judged: false,
  },
  smoke: {
    ...{ pairs: 1, seconds: 0.1, starts: 1 },
    ...{ manyZones: 24, idleZones: 8, settleSeconds: 0, idleSeconds: 0.5 },
    burst: 8,
    judged: false,
  },
} as const satisfies Record<string, Scale>;

interface Options {
  readonly quick?: true;
  readonly smoke?: true;
  readonly json?: string;
  readonly html?: string;
  readonly baseline?: string;
}

function parseArguments(): Options {
  const command = new Command('bench')
    .description('measures the agent against the floor of node:net')
    .version(packageVersion(), '--version', 'print the version')
    .option('--quick', 'fewer and shorter runs: a minute or two on an idle machine')
    .option('--smoke', 'shows that it works, not how fast')
    .option('--json <file>', 'writes what was measured')
    .option('--html <file>', 'writes it as one page with plots')
    .option('--baseline <file>', 'compares with an earlier run')
    .exitOverride();
  return command.parse().opts<Options>();
}

async function measure(options: Options): Promise<void> {
  const { baseline } = options;
  const before = baseline === undefined ? null : parseReport(readFileSync(baseline, 'utf8'));
  const scale = options.smoke ? SCALES.smoke : options.quick ? SCALES.quick : SCALES.full;
  const rows: Row[] = [];
  const processes = new Processes();
  const interrupted = (): void => {
    void processes.endAll().then(() => process.exit(1));
  };
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  if (!scale.judged) {
    console.log('Goals are for full runs; this one is not judged by them.\n');
  }
  console.log(headOf(before !== null));
  const progress = setInterval(() => showProgress(`measuring row ${rows.length + 1}`), 1000);
  try {
    const bench = new Bench(scale, processes, (row) => {
      rows.push(row);
      clearProgress();
      console.log(
        lineOf(
          row,
          before?.rows.find(({ name }) => name === row.name),
        ),
      );
    });
    await bench.run();
  } finally {
    clearInterval(progress);
    clearProgress();
    await processes.endAll();
  }
  const report = reportOf(rows);
  console.log(`\n${report.machine}; Node.js ${report.node}; took ${elapsed()}`);
  if (options.html !== undefined) {
    writeFileSync(options.html, pageOf(report, before));
  }
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  }
}

async function main(): Promise<number> {
  try {
    await measure(parseArguments());
    return 0;
  } catch (err) {
    if (err instanceof CommanderError) {
      return err.exitCode === 0 ? 0 : 2;
    }
    console.error(`bench: ${messageOf(err)}`);
    return 1;
  }
}

void main().then((status) => process.exit(status));
