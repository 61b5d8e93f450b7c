/*
 * The command line of the mdata programs: options of our own, then operands as the bytes that they are.
 *
 * The platform's client knows no options at all: its first argument is the key, the second the value,
 * whatever they begin with, and the rest is ignored (mdata-client, main in mdata_get.c and mdata_put.c).
 * Scripts that run here and there need the same of us, so our options are known before the first operand
 * only. From there on every word is taken as it stands: `mdata-put k --timeout=5` stores `--timeout=5`.
 *
 * The runtime decodes arguments as UTF-8 and loses what is none, so they are taken from the process's own
 * argument list where the system shows it (/proc/self/cmdline, on Linux and illumos). Inside here an
 * argument is a string of one character a byte.
 */
import { readFileSync } from 'node:fs';

import { packageVersion } from '../../src/lib/version';

/** Where a SmartOS zone has its socket; the second is for lx. */
const ZONE_SOCKETS = ['/.zonecontrol/metadata.sock', '/native/.zonecontrol/metadata.sock'];
/** Timers of the runtime end here. */
const MAX_LIMIT_MS = 2 ** 31 - 1;

export interface Usage {
  readonly name: string;
  readonly summary: string;
  /** As a usage line has them: `KEY`, `[VALUE]`. */
  readonly operands: string;
  /** How many there must be; more are ignored. */
  readonly least: 0 | 1;
  readonly help: string;
  /** Options besides those of all. */
  readonly options?: readonly ToolOption[];
}

export interface ToolOption {
  readonly flag: string;
  /** The name of its value; absent where it has none. */
  readonly value?: string;
  readonly help: string;
}

export const TOKEN: ToolOption = {
  flag: '--token',
  help: "print the key's token, for --if, not its value",
};

export const ONLY_IF: ToolOption = {
  flag: '--if',
  value: 'TOKEN',
  help: 'only if the key still has this token (-: only if it does not exist)',
};

/** What `--if` adds to a command. */
export function conditionOf(options: ReadonlyMap<string, string>): { readonly onlyIf?: string } {
  const onlyIf = options.get(ONLY_IF.flag);
  return onlyIf === undefined ? {} : { onlyIf };
}

export interface Arguments {
  readonly operands: readonly Buffer[];
  /** Socket paths to try, in this order. */
  readonly paths: readonly string[];
  /** How long to go on trying, milliseconds; null: for ever, as the platform's client does. */
  readonly limitMs: number | null;
  /** Those of the program's own options that were given; of one without a value the empty text. */
  readonly options: ReadonlyMap<string, string>;
}

/** What to exit with at once: help was asked for, or the usage was wrong. Both were printed. */
export interface Refused {
  readonly kind: 'exit';
  readonly code: 0 | 3;
}

/** The command line of this process. Never ends it: a refusal says what to exit with. */
export function readArguments(usage: Usage): Arguments | Refused {
  const words = rawArguments();
  let socket = process.env.MDATA_SOCKET ?? '';
  let timeout = process.env.MDATA_TIMEOUT ?? '';
  const options = new Map<string, string>();
  let at = 0;
  for (; at < words.length; at++) {
    const [name, joined] = optionOf(words[at] ?? '');
    if (name === '--help' || name === '-h') {
      process.stdout.write(helpOf(usage));
      return { kind: 'exit', code: 0 };
    }
    if (name === '--version') {
      process.stdout.write(`${packageVersion()}\n`);
      return { kind: 'exit', code: 0 };
    }
    const own = usage.options?.find(({ flag }) => flag === name);
    if (own === undefined && name !== '--socket' && name !== '--timeout') {
      break;
    }
    if (own !== undefined && own.value === undefined) {
      options.set(name, '');
      continue;
    }
    const value = joined ?? words[++at];
    if (value === undefined) {
      return wrong(usage, `${name} needs a value`);
    }
    if (own !== undefined) {
      options.set(name, value);
    } else if (name === '--socket') {
      socket = Buffer.from(value, 'latin1').toString('utf8');
    } else {
      timeout = value;
    }
  }
  const limitMs = timeout === '' ? null : Number(timeout) * 1000;
  if (limitMs !== null && !(limitMs > 0 && limitMs <= MAX_LIMIT_MS)) {
    return wrong(usage, 'a timeout is a number of seconds above 0');
  }
  const operands = words.slice(at).map((word) => Buffer.from(word, 'latin1'));
  return operands.length < usage.least
    ? wrong(usage, 'which key?')
    : { operands, paths: socket === '' ? ZONE_SOCKETS : [socket], limitMs, options };
}

/** An option's name, and the value that is joined to it. */
function optionOf(word: string): [name: string, value: string | undefined] {
  const at = word.indexOf('=');
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

function usageLine({ name, operands, options = [] }: Usage): string {
  const own = options.map(
    ({ flag, value }) => `[${value === undefined ? flag : `${flag} ${value}`}] `,
  );
  return `Usage: ${name} [--socket PATH] [--timeout SECONDS] ${own.join('')}${operands}`.trimEnd();
}

function helpOf(usage: Usage): string {
  return `${usageLine(usage)}

${usage.summary} ${usage.help}

Options stand before the first operand; every word behind it is taken as it is.
  --socket PATH      the metadata socket (default: $MDATA_SOCKET, else the zone's own)
  --timeout SECONDS  give up after this long (default: $MDATA_TIMEOUT, else never)
${(usage.options ?? [])
  .map(({ flag, value = '', help }) => `  ${`${flag} ${value}`.padEnd(17)}  ${help}\n`)
  .join('')}  --version          print the version
  -h, --help         print this

Exit: 0 found or done, 1 not found, 2 error, 3 usage.
`;
}

function wrong(usage: Usage, text: string): Refused {
  process.stderr.write(`${usage.name}: ${text}\n${usageLine(usage)}\n`);
  return { kind: 'exit', code: 3 };
}

/** The arguments behind the program's own path, one character a byte. */
function rawArguments(): string[] {
  const decoded = process.argv.slice(2);
  const raw = decoded.length === 0 ? [] : processArguments().slice(-decoded.length);
  // A system may cut the list that it shows (or show another's): it counts only if it is the same.
  const isWhole =
    raw.length === decoded.length &&
    raw.every((arg, index) => Buffer.from(arg, 'latin1').toString('utf8') === decoded[index]);
  return isWhole ? raw : decoded.map((arg) => Buffer.from(arg, 'utf8').toString('latin1'));
}

function processArguments(): string[] {
  try {
    return readFileSync('/proc/self/cmdline').toString('latin1').split('\0').slice(0, -1);
  } catch {
    // No such file on this system: arguments that are UTF-8 still come through whole.
    return [];
  }
}
