/*
 * Text that fits a terminal: labelled paragraphs. Pure.
 */

const CUT = '\u2026';

/** `text` in at most `room` characters. */
export function cut(text: string, room: number): string {
  return text.length <= room ? text : `${text.slice(0, Math.max(0, room - 1))}${CUT}`;
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
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
