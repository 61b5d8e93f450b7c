#!/usr/bin/env node
/*
 * mdata-dump: prints all metadata as JSON. One GETALL; where the agent knows none, or it would be too large for one
 * reply, KEYS and a GET for each.
 */
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { WELL_KNOWN_NAMES } from '../../src/metadata/sdc';
import type { Arguments } from './arguments';
import { failureOf, isUnknown, runProgram, send, valueIn } from './tool';

const USAGE = {
  name: 'mdata-dump',
  summary: 'Prints all metadata as JSON.',
  operands: '',
  least: 0,
  options: [{ flag: '--sdc', help: 'the properties of the instance too' }],
  help: `The object has "metadata", with --sdc also "sdc", and "token" where the agent knows one.`,
} as const;

async function dump(args: Arguments): Promise<JsonObject> {
  const withSdc = args.options.has('--sdc');
  const outcome = await send(USAGE, args, { kind: 'getall' });
  if (outcome.kind === 'success') {
    const all = parseJsonObject(outcome.data.toString('utf8'));
    if (all === undefined) {
      throw new Error('the answer is not a JSON object');
    }
    const { token, metadata, sdc } = all;
    return { token, metadata, ...(withSdc ? { sdc } : {}) };
  }
  const isTooLarge = outcome.kind === 'failure' && outcome.text === 'Too large';
  if (!isUnknown(outcome) && !isTooLarge) {
    throw failureOf(outcome);
  }
  const keys = await send(USAGE, args, { kind: 'keys' });
  if (keys.kind !== 'success') {
    throw failureOf(keys);
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
    const key = Buffer.from(`${prefix}${name}`);
    const value = valueIn(await send(USAGE, args, { kind: 'get', key }));
    if (value !== null) {
      found.push([name, value.toString('utf8')]);
    }
  }
  return Object.fromEntries(found);
}

void runProgram(USAGE, async (args) => {
  process.stdout.write(`${JSON.stringify(await dump(args), null, 2)}\n`);
  return 0;
});
