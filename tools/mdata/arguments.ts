/*
 * The command line of the four mdata programs: their options, and operands as the octets that they are.
 *
 * The runtime decodes arguments as UTF-8 and loses what is none, so the operands are taken from the
 * process's own argument list where the system shows it (/proc/self/cmdline, on Linux and illumos).
 * Inside here an argument is a string of one character an octet. Who reads a usage error sees exit 3.
 */
import { Command, CommanderError } from 'commander';
import { readFileSync } from 'node:fs';

/** Where a SmartOS zone has its socket; the second is for lx. */
const ZONE_SOCKETS = ['/.zonecontrol/metadata.sock', '/native/.zonecontrol/metadata.sock'];

export interface Usage {
  readonly name: string;
  readonly summary: string;
  /** As commander writes them: `<key>`, `[value]`. */
  readonly operands: readonly string[];
  readonly help: string;
}

export interface Arguments {
  readonly operands: readonly Buffer[];
  /** Socket paths to try, in this order. */
  readonly paths: readonly string[];
  /** How long to go on trying, milliseconds; null: for ever, as the platform's client does. */
  readonly limitMs: number | null;
}

/** What to exit with at once: help was asked for, or the usage was wrong. Both were printed. */
export interface Refused {
  readonly kind: 'exit';
  readonly code: 0 | 3;
}

/** The command line of this process. Never ends it: a refusal says what to exit with. */
export function readArguments(usage: Usage): Arguments | Refused {
  const program = new Command(usage.name)
    .description(usage.summary)
    .option('--socket <path>', "the metadata socket (default: $MDATA_SOCKET, else the zone's own)")
    .option('--timeout <seconds>', 'give up after this long (default: never)')
    .addHelpText('after', `\n${usage.help}\nExit: 0 found or done, 1 not found, 2 error, 3 usage.`)
    // A value or key may begin with a dash, as the platform's client allows.
    .allowUnknownOption()
    .allowExcessArguments(false)
    .exitOverride();
  for (const operand of usage.operands) {
    program.argument(operand);
  }
  try {
    program.parse(rawArguments(), { from: 'user' });
  } catch (err) {
    if (err instanceof CommanderError) {
      return { kind: 'exit', code: err.exitCode === 0 ? 0 : 3 };
    }
    throw err;
  }
  const { socket, timeout } = program.opts<{ socket?: string; timeout?: string }>();
  const limitMs = timeout === undefined ? null : Number(timeout) * 1000;
  if (limitMs !== null && !(limitMs > 0 && limitMs <= MAX_LIMIT_MS)) {
    console.error(`${usage.name}: --timeout needs a number of seconds above 0`);
    return { kind: 'exit', code: 3 };
  }
  return {
    operands: program.args.map((arg) => Buffer.from(arg, 'latin1')),
    paths: socketPaths(socket),
    limitMs,
  };
}

/** Timers of the runtime end here. */
const MAX_LIMIT_MS = 2 ** 31 - 1;

function socketPaths(option: string | undefined): readonly string[] {
  if (option !== undefined) {
    return [Buffer.from(option, 'latin1').toString('utf8')];
  }
  const fromEnvironment = process.env.MDATA_SOCKET;
  return fromEnvironment === undefined || fromEnvironment === '' ? ZONE_SOCKETS : [fromEnvironment];
}

/** The arguments behind the program's own path, one character an octet. */
function rawArguments(): string[] {
  const decoded = process.argv.slice(2);
  const raw = processArguments().slice(-decoded.length);
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
