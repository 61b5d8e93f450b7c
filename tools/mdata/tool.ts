/*
 * What the mdata programs share: from the command line to the exit code. Output and exit codes are
 * those of the platform's client, which boot scripts and Salt read.
 */
import assert from 'node:assert';

import { explain } from '../../src/lib/errors';
import type { Command, Outcome } from '../../src/protocol/client';
import { readArguments, type Arguments, type Usage } from './arguments';
import { ask } from './session';

const EXIT_NOTFOUND = 1;
const EXIT_ERROR = 2;

export interface Tool extends Usage {
  /** Makes the command of the operands, of which there are as many as the usage asks for. */
  readonly command: (
    operands: readonly Buffer[],
    options: ReadonlyMap<string, string>,
  ) => Command | Promise<Command>;
  /** Prints what was found. */
  readonly found: (data: Buffer) => void;
  /** What was wanted, for messages: `metadata for 'key'`. */
  readonly wanted: (operands: readonly Buffer[]) => Buffer;
}

/** Runs a program of one command; its exit code is set when the promise resolves. Never rejects. */
export function runTool(tool: Tool): Promise<void> {
  return runProgram(tool, async (args) => {
    const { operands, options } = args;
    const command = await tool.command(operands, options);
    return conclude(tool, operands, await send(tool, args, command));
  });
}

/**
 * Runs a program; its exit code is set when the promise resolves. Never rejects.
 * @param main resolves to the exit code
 */
export async function runProgram(
  usage: Usage,
  main: (args: Arguments) => Promise<number>,
): Promise<void> {
  // Whoever reads us may stop early (`| head`): an error, but none to show a stack for.
  process.stdout.on('error', () => process.exit(EXIT_ERROR));
  const args = readArguments(usage);
  process.exitCode =
    'kind' in args
      ? args.code
      : await main(args).catch((err: unknown) => {
          process.stderr.write(explain(usage.name, err));
          return EXIT_ERROR;
        });
}

/** Asks the agent, as the command line says. A WATCH is waited for by so much longer as it may wait. */
export function send(
  { name }: Usage,
  { paths, limitMs }: Arguments,
  command: Command,
): Promise<Outcome> {
  const longerMs = command.kind === 'watch' ? 1000 * command.seconds : 0;
  const note = (text: string): void => say(`${name}: ${text}`);
  return ask(command, { paths, limitMs: limitMs === null ? null : limitMs + longerMs, note });
}

/** True: the agent does not know the verb, and is asked in another way. */
export function isUnknown(outcome: Outcome): boolean {
  return outcome.kind === 'failure' && outcome.text.startsWith('Unknown command');
}

/** What an agent says that is not ready yet, or met a fault: it may answer the same request later. */
const PASSING = ['VM data is not available yet.', 'Internal error.'];

export function isPassing(outcome: Outcome): boolean {
  return outcome.kind === 'failure' && PASSING.includes(outcome.text);
}

/** The value that a GET was answered with; null where there is none, or none with a text. @throws the failure */
export function valueIn(outcome: Outcome): Buffer | null {
  if (outcome.kind === 'failure' && outcome.text !== '') {
    throw failureOf(outcome);
  }
  return outcome.kind === 'success' ? outcome.data : null;
}

/** Of an answer that is no success. */
export function failureOf(outcome: Outcome): Error {
  return new Error(outcome.kind === 'failure' ? outcome.text : outcome.kind);
}

function conclude(tool: Tool, operands: readonly Buffer[], outcome: Outcome): number {
  switch (outcome.kind) {
    case 'success':
      tool.found(outcome.data);
      return 0;
    case 'notfound':
      // Bytes as they came: a key need not be UTF-8.
      process.stderr.write(Buffer.concat([Buffer.from('No '), tool.wanted(operands), NEWLINE]));
      return EXIT_NOTFOUND;
    case 'failure': {
      const [, token] = /^Changed (\S+)$/.exec(outcome.text) ?? [];
      if (token !== undefined) {
        // For the next try; a script tells it from all else by the exit code.
        process.stdout.write(`${token}\n`);
        say(`${tool.name}: the key has changed`);
        return EXIT_NOTFOUND;
      }
      say(`${tool.name}: ${outcome.text === '' ? 'the request failed' : outcome.text}`);
      return EXIT_ERROR;
    }
    default: {
      const never: never = outcome;
      return never;
    }
  }
}

/** An operand that the usage asks for, so that its absence is our fault. */
export function operand(operands: readonly Buffer[], index: number): Buffer {
  return operands[index] ?? assert.fail('an operand that the usage asks for is missing');
}

/** `metadata for 'KEY'`, the platform's client's words. */
export function metadataFor(operands: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from("metadata for '"), operand(operands, 0), Buffer.from("'")]);
}

export const NEWLINE = Buffer.from('\n');

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
