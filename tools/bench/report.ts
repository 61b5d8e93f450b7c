/*
 * What a benchmark found, as rows: for people, for JSON, and against an earlier run.
 */
import { cpus, release, totalmem } from 'node:os';
import { z } from 'zod';

export interface Goal {
  readonly least?: number;
  readonly most?: number;
}

const rowSchema = z.object({
  name: z.string(),
  unit: z.string(),
  /** The median; the least and the greatest value of all runs. */
  median: z.number(),
  least: z.number(),
  greatest: z.number(),
  runs: z.number(),
  goal: z.string(),
  met: z.boolean(),
  /** Whether the goal is for a run of this size: those of quick runs are not. */
  judged: z.boolean().default(true),
  note: z.string(),
  /** Of each run, in their order. */
  values: z.array(z.number()).default([]),
});

export type Row = Readonly<z.infer<typeof rowSchema>>;

const reportSchema = z.object({
  machine: z.string(),
  node: z.string(),
  rows: z.array(rowSchema),
});

export type Report = Readonly<z.infer<typeof reportSchema>>;

/** A row from what its runs gave. @param values one of each run, at least one @param judged by its goal */
export function rowOf(
  name: string,
  unit: string,
  goal: Goal,
  values: readonly number[],
  note: string,
  judged = true,
): Row {
  const sorted = [...values].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? NaN;
  const { least: atLeast = -Infinity, most: atMost = Infinity } = goal;
  return {
    ...{ name, unit, median, note, judged },
    values: [...values],
    least: sorted[0] ?? NaN,
    greatest: sorted.at(-1) ?? NaN,
    runs: values.length,
    goal: goalText(goal),
    met: median >= atLeast && median <= atMost,
  };
}

function goalText({ least, most }: Goal): string {
  return least !== undefined ? `>= ${least}` : most !== undefined ? `<= ${most}` : '';
}

/** A report of these rows, made on this machine, now. */
export function reportOf(rows: readonly Row[]): Report {
  const [cpu] = cpus();
  const memory = Math.round(totalmem() / 1024 ** 3);
  const machine = `${cpus().length} x ${cpu?.model ?? 'unknown'}, ${memory} GiB, ${release()}`;
  return { machine, node: process.version, rows: [...rows] };
}

/** Throws for text that is no report. */
export function parseReport(text: string): Report {
  return reportSchema.parse(JSON.parse(text));
}

/** One row as a line of a Markdown table. */
export function lineOf(row: Row, before?: Row): string {
  const spread = row.runs > 1 ? ` (${round(row.least)} to ${round(row.greatest)})` : '';
  const verdict = row.goal === '' || !row.judged ? '' : row.met ? 'met' : 'missed';
  const cells = [
    row.name,
    `${round(row.median)} ${row.unit}${spread}`,
    row.goal,
    verdict,
    row.note,
  ];
  if (before !== undefined) {
    cells.push(`${round(before.median)}, ${changeText(row.median, before.median)}`);
  }
  return `| ${cells.join(' | ')} |`;
}

/** The head of the Markdown table that `lineOf` makes the lines of. */
export function headOf(compared: boolean): string {
  const names = ['what', 'measured', 'goal', '', 'of the median run'];
  const cells = compared ? [...names, 'baseline, change'] : names;
  return `| ${cells.join(' | ')} |\n|${' --- |'.repeat(cells.length)}`;
}

/** Where the median of some values is among them. */
export function medianAt(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return values.indexOf(sorted[Math.floor(sorted.length / 2)] ?? NaN);
}

/** How much a number changed, such as `+12 %`. */
export function changeText(now: number, before: number): string {
  const percent = (100 * (now - before)) / before;
  return `${percent < 0 ? '' : '+'}${percent.toFixed(0)} %`;
}

/** Three digits are more than a run is worth. */
export function round(value: number): string {
  return Number(value.toPrecision(3)).toString();
}
