/*
 * A benchmark's report as one self-contained HTML page: a plot for each row, with the spread of its runs, its goal
 * and the baseline. No script, no font and no style from elsewhere, so it can be mailed or kept as it is. Pure.
 */
import { changeText, round, type Report, type Row } from './report';

const PLOT = { width: 440, height: 44, left: 8, right: 8 };

const STYLE = `
:root { color-scheme: light dark; --fg: #1b1f24; --dim: #6a737d; --bg: #fff; --bar: #9cc3e6; --dot: #1f6feb;
  --goal: #2da44e; --missed: #cf222e; --base: #bf8700; --line: #d0d7de; }
@media (prefers-color-scheme: dark) { :root { --fg: #e6edf3; --dim: #8b949e; --bg: #0d1117; --bar: #1f4b7a;
  --dot: #79c0ff; --goal: #3fb950; --missed: #ff7b72; --base: #d29922; --line: #30363d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg); margin: 2rem auto;
  max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } p { color: var(--dim); margin: .2rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
th, td { padding: .45rem .6rem; border-top: 1px solid var(--line); vertical-align: middle; }
td.n { white-space: nowrap; font-variant-numeric: tabular-nums; } small { color: var(--dim); display: block; }
.met { color: var(--goal); } .missed { color: var(--missed); } svg { display: block; max-width: 100%; }
text { font: 11px system-ui, sans-serif; fill: var(--dim); }`;

/** The page. @param baseline an earlier report, to compare with */
export function pageOf(report: Report, baseline: Report | null): string {
  const rows = report.rows.map((row) =>
    rowHtml(
      row,
      baseline?.rows.find(({ name }) => name === row.name),
    ),
  );
  const compared = baseline === null ? '' : `; baseline: ${baseline.machine}, ${baseline.node}`;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>mdatad benchmark</title><style>${STYLE}</style>
<h1>mdatad benchmark</h1>
<p>${escape(`${report.machine}; Node.js ${report.node}${compared}`)}.
Bar: least to greatest of all runs. Dots: runs. Long mark: median. Dashed: goal. Triangle: baseline.</p>
<table><thead><tr><th>What</th><th>Measured</th><th>Goal</th><th>Runs</th></tr></thead><tbody>
${rows.join('\n')}
</tbody></table></html>
`;
}

function rowHtml(row: Row, before: Row | undefined): string {
  const verdict = row.goal === '' || !row.judged ? '' : row.met ? 'met' : 'missed';
  const change =
    before === undefined
      ? ''
      : `<small>baseline ${round(before.median)}, ${changeText(row.median, before.median)}</small>`;
  return `<tr><td>${escape(row.name)}<small>${escape(row.note)}</small></td>
<td class="n">${round(row.median)} ${escape(row.unit)}${change}</td>
<td class="n ${verdict}">${escape(row.goal)}<small class="${verdict}">${verdict}</small></td>
<td>${plot(row, before)}</td></tr>`;
}

function plot(row: Row, before: Row | undefined): string {
  const goal = Number(/-?[\d.]+$/.exec(row.goal)?.[0] ?? NaN);
  const marks = [row.least, row.greatest, goal, before?.median ?? NaN].filter(Number.isFinite);
  // From zero, so that lengths can be compared; a little air on the right.
  const most = Math.max(...marks, Number.MIN_VALUE) * 1.08;
  const { width, height, left, right } = PLOT;
  const x = (value: number): string => (left + (value / most) * (width - left - right)).toFixed(1);
  const middle = 18;
  const parts = [
    `<line x1="${left}" x2="${width - right}" y1="${middle}" y2="${middle}" stroke="var(--line)"/>`,
    `<rect x="${x(row.least)}" y="${middle - 6}" height="12" rx="2" fill="var(--bar)" width="${Math.max(1, Number(x(row.greatest)) - Number(x(row.least))).toFixed(1)}"/>`,
    ...row.values.map(
      (value) => `<circle cx="${x(value)}" cy="${middle}" r="2.5" fill="var(--dot)"/>`,
    ),
    `<line x1="${x(row.median)}" x2="${x(row.median)}" y1="${middle - 11}" y2="${middle + 11}" stroke="var(--dot)" stroke-width="2.5"/>`,
    ...(Number.isFinite(goal)
      ? [
          `<line x1="${x(goal)}" x2="${x(goal)}" y1="2" y2="${middle + 11}" stroke="var(--goal)" stroke-width="1.5" stroke-dasharray="4 3"/>`,
        ]
      : []),
    ...(before === undefined
      ? []
      : [`<path d="M ${x(before.median)} ${middle + 8} l -5 9 h 10 z" fill="var(--base)"/>`]),
    `<text x="${left}" y="${height - 2}">0</text>`,
    `<text x="${width - right}" y="${height - 2}" text-anchor="end">${round(most)} ${escape(row.unit)}</text>`,
  ];
  const label = `${row.name}: ${round(row.least)} to ${round(row.greatest)}, median ${round(row.median)} ${row.unit}`;
  return `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">${parts.join('')}</svg>`;
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
