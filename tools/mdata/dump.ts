#!/usr/bin/env node
/*
 * mdata-dump: prints all metadata as JSON. One GETALL; where the agent knows none, or it would be too large for one
 * reply, KEYS and a GET for each.
 */
import { messageOf } from '../../src/lib/errors';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { WELL_KNOWN_NAMES } from '../../src/metadata/sdc';
import type { Command, Outcome } from '../../src/protocol/client';
import { readArguments, type Arguments } from './arguments';
import { ask } from './session';
import { say } from './tool';

const USAGE = {
  name: 'mdata-dump',
  summary: 'Prints all metadata as JSON.',
  operands: '',
  least: 0,
  options: [{ flag: '--sdc', help: 'the properties of the instance too' }],
  help: `The object has "metadata", with --sdc also "sdc", and "token" where the agent knows one.`,
} as const;

const EXIT_ERROR = 2;

async function dump(args: Arguments): Promise<JsonObject> {
  const withSdc = args.options.has('--sdc');
  const outcome = await send(args, { kind: 'getall' });
  if (outcome.kind === 'success') {
    const all = parseJsonObject(outcome.data.toString('utf8'));
    if (all === undefined) {
      throw new Error('the answer is not a JSON object');
    }
    const { token, metadata, sdc } = all;
    return { token, metadata, ...(withSdc ? { sdc } : {}) };
  }
  const isTooMuch =
    outcome.kind === 'unsupported' ||
    (outcome.kind === 'failure' && /^(Unknown command|Too large)/.test(outcome.text));
  if (!isTooMuch) {
    throw new Error(outcome.kind === 'failure' ? outcome.text : outcome.kind);
  }
  const keys = await send(args, { kind: 'keys' });
  if (keys.kind !== 'success') {
    throw new Error(keys.kind === 'failure' ? keys.text : 'the keys cannot be listed');
  }
  const text = keys.data.toString('utf8');
  const metadata = await values(args, text === '' ? [] : text.split('\n'), '');
  return withSdc ? { metadata, sdc: await values(args, WELL_KNOWN_NAMES, 'sdc:') } : { metadata };
}

async function values(
  args: Arguments,
  names: readonly string[],
  prefix: string,
): Promise<JsonObject> {
  const found: [string, string][] = [];
  for (const name of names) {
    const outcome = await send(args, { kind: 'get', key: Buffer.from(`${prefix}${name}`) });
    if (outcome.kind === 'success') {
      found.push([name, outcome.data.toString('utf8')]);
    }
  }
  return Object.fromEntries(found);
}

function send({ paths, limitMs }: Arguments, command: Command): Promise<Outcome> {
  return ask(command, { paths, limitMs, note: (text) => say(`${USAGE.name}: ${text}`) });
}

async function main(): Promise<number> {
  const args = readArguments(USAGE);
  if ('kind' in args) {
    return args.code;
  }
  process.stdout.write(`${JSON.stringify(await dump(args), null, 2)}\n`);
  return 0;
}

process.stdout.on('error', () => process.exit(EXIT_ERROR));
main().then(
  (code) => {
    process.exitCode = code;
  },
  (err: unknown) => {
    say(`${USAGE.name}: ${messageOf(err)}`);
    process.exitCode = EXIT_ERROR;
  },
);
