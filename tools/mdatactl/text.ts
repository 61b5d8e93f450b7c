/*
 * Text that fits a terminal: labelled paragraphs, in columns of the terminal (a guest's keys may be wide), and short
 * forms of numbers for tables. Pure.
 *
 * string-width 4 is the last that CommonJS can load on Node 20, and small; wrap-ansi of that age has no types and
 * brings four packages for the dozen lines of `wrap`.
 */
import stringWidth from 'string-width';
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../../src/admin/format';

const CUT = '\u2026';

/** `text` in at most `room` columns. */
export function cut(text: string, room: number): string {
  if (stringWidth(text) <= room) {
    return text;
  }
  let kept = '';
  let columns = 1;
  for (const char of text) {
    columns += stringWidth(char);
    if (columns > room) {
      break;
    }
    kept += char;
  }
  return `${kept}${CUT}`;
}

/** A label, and text beside it that is wrapped between words. */
export function paragraph(label: string, text: string, indent: number, width: number): string[] {
  const lines = wrap(text, Math.max(20, width - indent));
  return lines.map((line, i) => `${(i === 0 ? label : '').padEnd(indent)}${line}`.trimEnd());
}

/** What to do, on one line whatever its length: it is there to be copied. */
export function remedyLine(remedy: string, indent: number): string {
  return `${''.padEnd(indent)}-> ${remedy}`;
}

/** A word that is longer than a line (a path) keeps its line for itself, uncut: it may be copied. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && stringWidth(line) + 1 + stringWidth(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

/** For tables: `40ms`, `3s`, `1m05s`, `5h02m`, `12d03h`. */
export function inShort(ms: number): string {
  if (ms < SECOND_MS) {
    return `${Math.max(0, Math.round(ms))}ms`;
  }
  if (ms < MINUTE_MS) {
    return `${Math.floor(ms / SECOND_MS)}s`;
  }
  if (ms < HOUR_MS) {
    return `${Math.floor(ms / MINUTE_MS)}m${padded((ms % MINUTE_MS) / SECOND_MS)}s`;
  }
  if (ms < DAY_MS) {
    return `${Math.floor(ms / HOUR_MS)}h${padded((ms % HOUR_MS) / MINUTE_MS)}m`;
  }
  return `${Math.floor(ms / DAY_MS)}d${padded((ms % DAY_MS) / HOUR_MS)}h`;
}

/** A latency: `0.25 ms`, `40 ms`; null is what the histogram has no bound for. */
export function latency(ms: number | null): string {
  return ms === null ? 'over 30 s' : `${ms} ms`;
}

function padded(value: number): string {
  return String(Math.floor(value)).padStart(2, '0');
}
