/*
 * Text that fits a terminal: tables whose columns give way, and labelled paragraphs. Pure.
 */
import type { Colour, Screen } from './paint';

export interface Column {
  readonly title: string;
  readonly align?: 'right';
  /** Is cut to this before any column is cut further. */
  readonly soft?: number;
  /** Narrowest that it may be cut to; absent: it is never cut. */
  readonly least?: number;
}

export interface Cell {
  readonly text: string;
  readonly colour?: Colour;
}

const GAP = ' ';
const CUT = '\u2026';

/** Lines of a table. Where it is too wide, columns that may be cut are, the widest first. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  { width, paint }: Screen,
): string[] {
  const widths = columns.map(({ title }, i) => {
    return Math.max(title.length, ...rows.map((row) => row[i]?.text.length ?? 0));
  });
  const room = width - GAP.length * (columns.length - 1);
  shrink(widths, room, (i) => columns[i]?.soft ?? Infinity);
  shrink(widths, room, (i) => columns[i]?.least ?? Infinity);
  const line = (cells: readonly Cell[]): string => {
    const parts = columns.map(({ align }, i) => {
      const { text = '', colour } = cells[i] ?? {};
      const columnWidth = widths[i] ?? 0;
      const shown = cut(text, columnWidth);
      const padded = align === 'right' ? shown.padStart(columnWidth) : shown.padEnd(columnWidth);
      return colour === undefined ? padded : paint(colour, padded);
    });
    return parts.join(GAP).trimEnd();
  };
  const titles = columns.map(({ title }): Cell => ({ text: title, colour: 'bold' }));
  return [line(titles), ...rows.map((row) => line(row))];
}

/** One by one from the widest, so that what is cut is cut evenly. @param least of a column */
function shrink(widths: number[], room: number, least: (column: number) => number): void {
  for (let over = sum(widths) - room; over > 0; over--) {
    let widest = -1;
    for (const [i, width] of widths.entries()) {
      if (width > least(i) && width > (widths[widest] ?? 0)) {
        widest = i;
      }
    }
    if (widest === -1) {
      return;
    }
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
}

/** `text` in at most `room` characters. */
export function cut(text: string, room: number): string {
  return text.length <= room ? text : `${text.slice(0, Math.max(0, room - 1))}${CUT}`;
}

/** A label, and text beside it that is wrapped between words. */
export function paragraph(label: string, text: string, indent: number, width: number): string[] {
  const lines = wrap(text, Math.max(20, width - indent));
  return lines.map((line, i) => `${(i === 0 ? label : '').padEnd(indent)}${line}`.trimEnd());
}

/** What to do. A line for a shell stays one line: it may be copied. */
export function remedyLines(remedy: string, indent: number, width: number): string[] {
  const text = `-> ${remedy}`;
  return remedy.includes('<<<')
    ? [`${''.padEnd(indent)}${text}`]
    : paragraph('', text, indent, width);
}

/** A word that is longer than a line (a path) keeps its line for itself, uncut: it may be copied. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}
