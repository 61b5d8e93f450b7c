/*
 * How much of the agent's code a set of inputs reaches, by V8's own block counters: read once over a
 * kept corpus, since counting during a whole run would slow it down.
 */
import { Session } from 'node:inspector';
import { sep } from 'node:path';

export interface Coverage {
  /** Blocks of code in the agent's files that were run, and all of them in functions that V8 saw. */
  readonly reached: number;
  readonly blocks: number;
}

/** Runs `work` and returns how much of the files below `directory` it reached. */
export function coverageOf(directory: string, work: () => void): Coverage {
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
