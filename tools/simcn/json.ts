/*
 * The `json` of a zone: reads JSON and prints parts of it, for scripts. It is the one that SmartOS images bring
 * (github.com/trentm/json), as far as scripts of images use it; `view.ts` installs it into zones.
 *
 *   json [-a] [-g] [-c CODE] [-e CODE] [-f FILE] [-d SEPARATOR] [-D SEPARATOR] [-j | -0..-8] [-k] [-n] [-q] [KEY]...
 *
 * A KEY is a path (`nics.0.ip`, `tags["a.b"]`). What is missing prints nothing; text prints as it is, the
 * rest as JSON. Not here: -i, -I, -E, -C, -A, -M, -H, -u and the output of -o but `json-N`.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runInNewContext } from 'node:vm';

import { messageOf } from '../../src/lib/errors';

const DEFAULT_INDENT = 2;

interface Options {
  readonly each: boolean;
  readonly group: boolean;
  readonly keys: boolean;
  readonly validate: boolean;
  readonly quiet: boolean;
  /** Print text as JSON too. */
  readonly quoted: boolean;
  readonly file: string | null;
  readonly conditions: readonly string[];
  readonly changes: readonly string[];
  /** Between the values of a line. */
  readonly delimiter: string;
  readonly indent: number;
  readonly paths: readonly (readonly string[])[];
}

/** @throws Error for an unknown option or a KEY that cannot be read */
function parseOptions(argv: readonly string[]): Options {
  const indents = argv.flatMap((arg) => /^-([0-8])$/.exec(arg)?.[1] ?? []).map(Number);
  const { values, positionals } = parseArgs({
    args: argv.filter((arg) => !/^-[0-8]$/.test(arg)),
    allowPositionals: true,
    options: {
      array: { type: 'boolean', short: 'a' },
      group: { type: 'boolean', short: 'g' },
      keys: { type: 'boolean', short: 'k' },
      json: { type: 'boolean', short: 'j' },
      validate: { type: 'boolean', short: 'n' },
      quiet: { type: 'boolean', short: 'q' },
      file: { type: 'string', short: 'f' },
      condition: { type: 'string', short: 'c', multiple: true },
      execute: { type: 'string', short: 'e', multiple: true },
      delimiter: { type: 'string', short: 'd' },
      separator: { type: 'string', short: 'D' },
      output: { type: 'string', short: 'o' },
    },
  });
  const style = values.output === undefined ? null : /^jsony?(?:-([0-8]))?$/.exec(values.output);
  if (values.output !== undefined && style === null) {
    throw new Error(`unknown output mode: "${values.output}"`);
  }
  return {
    each: values.array === true,
    group: values.group === true,
    keys: values.keys === true,
    validate: values.validate === true,
    quiet: values.quiet === true,
    quoted: values.json === true || values.output?.startsWith('json-') === true,
    file: values.file ?? null,
    conditions: values.condition ?? [],
    changes: values.execute ?? [],
    delimiter: values.delimiter ?? ' ',
    indent: indents.at(-1) ?? Number(style?.[1] ?? DEFAULT_INDENT),
    paths: positionals.map((key) => parseKey(key, values.separator ?? '.')),
  };
}

/** The names of a path: between separators, or in brackets, where they may be quoted. */
function parseKey(key: string, separator: string): string[] {
  const escaped = separator.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const part = new RegExp(`\\[(?:"([^"]*)"|'([^']*)'|([^\\]]*))\\]|((?:(?!${escaped})[^[])+)`, 'g');
  return [...key.matchAll(part)].map(([, double, single, bare, plain]) => {
    return double ?? single ?? bare ?? plain ?? '';
  });
}

/** Cuts objects and arrays that follow each other at the places where all brackets are closed. */
function split(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? '';
    if (inString) {
      at += char === '\\' ? 1 : 0;
      inString = char !== '"';
    } else if (char === '"') {
      inString = true;
    } else if ('{['.includes(char)) {
      depth++;
    } else if ('}]'.includes(char) && --depth === 0) {
      parts.push(text.slice(start, at + 1));
      start = at + 1;
    }
  }
  const rest = text.slice(start);
  return rest.trim() === '' ? parts : [...parts, rest];
}

function lookUp(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((found, name) => {
    if (Array.isArray(found)) {
      const list: readonly unknown[] = found;
      return name === 'length' ? list.length : list.at(Number(name));
    }
    return typeof found === 'object' && found !== null && Object.hasOwn(found, name)
      ? Object.getOwnPropertyDescriptor(found, name)?.value
      : undefined;
  }, value);
}

/** Runs a piece of the caller's own JavaScript with the value as `this`. */
function evaluate(code: string, value: unknown, isExpression: boolean): unknown {
  const body = isExpression ? `return (${code})` : `${code}; return this`;
  return runInNewContext(`(function () { ${body} }).call(value)`, { value });
}

function main(argv: readonly string[]): void {
  const options = parseOptions(argv);
  const text = readFileSync(options.file ?? 0, 'utf8');
  if (text.trim() === '') {
    return;
  }
  let input: unknown;
  try {
    input = options.group ? split(text).map((part): unknown => JSON.parse(part)) : JSON.parse(text);
  } catch (err) {
    process.exitCode = 1;
    if (!options.quiet) {
      process.stderr.write(`json: error: input is not JSON: ${messageOf(err)}\n`);
    }
    return;
  }
  if (options.validate) {
    return;
  }
  const values: readonly unknown[] = options.each && Array.isArray(input) ? input : [input];
  for (const given of values) {
    if (options.conditions.every((code) => Boolean(evaluate(code, given, true)))) {
      const value = options.changes.reduce((before, code) => evaluate(code, before, false), given);
      process.stdout.write(output(value, options));
    }
  }
}

function output(value: unknown, options: Options): string {
  const { paths, indent, delimiter, each } = options;
  const shown = (found: unknown): string => {
    if (found === undefined) {
      return '';
    }
    return typeof found === 'string' && !options.quoted
      ? found
      : JSON.stringify(found, null, indent);
  };
  if (options.keys) {
    const names = typeof value === 'object' && value !== null ? Object.keys(value) : [];
    return each ? names.map((name) => `${name}\n`).join('') : `${shown(names)}\n`;
  }
  if (paths.length === 0) {
    return `${shown(value)}\n`;
  }
  const found = paths.map((path) => shown(lookUp(value, path)));
  return each
    ? `${found.join(delimiter)}\n`
    : found.map((text) => (text === '' ? '' : `${text}\n`)).join('');
}

try {
  main(process.argv.slice(2));
} catch (err) {
  process.stderr.write(`json: error: ${messageOf(err)}\n`);
  process.exitCode = 1;
}
