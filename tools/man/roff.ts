/*
 * Renders a command's description as a manual page in the man(7) macros, which groff and mandoc
 * (SmartOS) both read. Pure.
 */
import type { Block, ManCommand, Option, Subcommand } from './command';

/** Of the last change to what the pages say: a page is the same whenever it is built. */
const PAGES_DATE = 'November 2026';

/** The page's source; ends in a newline. */
export function manPage(command: ManCommand, version: string): string {
  const { name, section } = command;
  const lines = [
    `.TH ${name.toUpperCase()} ${section} "${PAGES_DATE}" "mdatad ${version}" "mdatad"`,
    ...head('NAME'),
    `${escape(name)} \\- ${inline(command.summary)}`,
    ...head('SYNOPSIS'),
    ...command.synopsis.flatMap((line) => ['.PP', `\\fB${escape(name)}\\fR ${synopsis(line)}`]),
    ...head('DESCRIPTION'),
    ...command.description.flatMap(paragraph),
    ...(command.options.length === 0 ? [] : head('OPTIONS')),
    ...command.options.flatMap(option),
    ...(command.subcommands === undefined ? [] : head('COMMANDS')),
    ...(command.subcommands ?? []).flatMap(subcommand),
    ...command.sections.flatMap(({ title, blocks }) => [...head(title), ...blocks.flatMap(block)]),
    ...head('EXIT STATUS'),
    ...command.exit.flatMap(([term, text]) => tagged(escape(term), text)),
    ...head('SEE ALSO'),
    command.seeAlso.map(reference).join(',\n'),
  ];
  // A heading begins a paragraph by itself, and mandoc complains of a second beginning.
  const needed = lines.filter((line, i) => line !== '.PP' || !lines[i - 1]?.startsWith('.SH'));
  return `${needed.join('\n')}\n`;
}

function head(title: string): string[] {
  return [`.SH "${title}"`];
}

function paragraph(text: string): string[] {
  return ['.PP', inline(text)];
}

function tagged(tag: string, text: string): string[] {
  return ['.TP', tag, inline(text)];
}

function option({ flag, value, text }: Option): string[] {
  const tag = value === undefined ? '' : ` \\fI${escape(value)}\\fR`;
  return tagged(`\\fB${escape(flag)}\\fR${tag}`, text);
}

function subcommand({ name, operands, options = [], text }: Subcommand): string[] {
  const tag = `\\fB${escape(name)}\\fR ${synopsis(operands)}`.trimEnd();
  const inner = options.length === 0 ? [] : ['.RS', ...options.flatMap(option), '.RE'];
  return [...tagged(tag, text), ...inner];
}

function block(part: Block): string[] {
  switch (part.kind) {
    case 'text':
      return paragraph(part.text);
    case 'entries':
      return part.entries.flatMap(([term, text]) => tagged(inline(term), text));
    case 'example':
      return [
        ...paragraph(part.text),
        '.PP',
        '.RS 4',
        '.nf',
        ...part.lines.map(escape),
        '.fi',
        '.RE',
      ];
  }
}

/** `name(8)` with its name in bold. */
function reference(page: string): string {
  const [, name = page, section = ''] = /^(.*)(\(\w+\))$/.exec(page) ?? [];
  return `\\fB${escape(name)}\\fR${section}`;
}

/** A synopsis: words in capitals are the user's, options are literal. */
function synopsis(text: string): string {
  return escape(text)
    .replace(/\b[A-Z][A-Z]+\b/g, '\\fI$&\\fR')
    .replace(/(^|[[ ])((?:\\-){2}[a-z]+(?:\\-[a-z]+)*)/g, '$1\\fB$2\\fR');
}

function inline(text: string): string {
  return escape(text)
    .replace(/(^|[^A-Za-z0-9])_([A-Z]+)_/g, '$1\\fI$2\\fR')
    .replace(/`([^`]+)`/g, '\\fB$1\\fR');
}

/** Text as roff prints it: backslashes, hyphens that can be typed again, and no line that is a request. */
function escape(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/"/g, '\\(dq')
    .replace(/'/g, '\\(aq')
    .replace(/^\./, '\\&.');
}
