/* What a run says: its statistics, and a fault as a test that can be pasted. */
import { escape } from './corpus';
import type { Finding, Run } from './engine';

/** A line of the table of what was run. @param ms how long it took */
export function statsLine(run: Run, ms: number): string {
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

export const STATS_HEADER = [
  'target'.padEnd(14),
  'executions'.padStart(12),
  'rate'.padStart(11),
  'features'.padStart(9),
  'corpus'.padStart(7),
].join(' ');

/** A test that holds the finding, as text to be pasted. */
export function testCase({ target, message, input }: Finding, seed: number): string {
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
