/*
 * What stands behind a command of vmadm: options, a uuid, and a payload of a file, of stdin or of arguments; and
 * how its answers are written. Nothing here knows a VM.
 */
import { readFileSync } from 'node:fs';
import { isatty } from 'node:tty';
import { parseArgs } from 'node:util';

import { codeOf, messageOf } from '../../src/lib/errors';
import { isJsonObject, type JsonObject } from '../../src/metadata/vm-data';

/** The command line is wrong: the usage is printed after its text. */
export class UsageError extends Error {}

/** The uuid stands first; vmadm looks at its length and its dashes. */
export function uuidOf(
  command: string,
  args: readonly string[],
): { readonly uuid: string; readonly rest: readonly string[] } {
  const [uuid = '', ...rest] = args;
  if (uuid.length !== 36 || [8, 13, 18, 23].some((at) => uuid[at] !== '-')) {
    throw new UsageError(`Invalid or missing UUID for ${command}`);
  }
  return { uuid, rest };
}

export const FILE = { file: { type: 'string', short: 'f' } } as const;

/**
 * JSON of a file or of stdin, or made of `property=value` arguments, which are all text.
 * @param assignments whether arguments can be that
 */
export function payloadOf(
  command: string,
  args: readonly string[],
  assignments: boolean,
): JsonObject {
  const { values, positionals } = flags(args, FILE);
  if (assignments && positionals.length > 0) {
    return Object.fromEntries(
      positionals.map((text) => {
        const [name = '', ...value] = text.split('=');
        return [name, value.join('=')];
      }),
    );
  }
  const file = typeof values.file === 'string' && values.file !== '-' ? values.file : 0;
  if (file === 0 && isatty(0)) {
    throw new UsageError(`Will not ${command} from stdin when stdin is a tty.`);
  }
  const payload = parseJson(readText(file));
  if (!isJsonObject(payload)) {
    throw new Error('Invalid JSON payload: not an object');
  }
  return payload;
}

function readText(file: string | 0): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (err) {
    throw codeOf(err) === 'ENOENT' ? new Error(`File: ${file} does not exist.`) : err;
  }
}

function parseJson(text: string): unknown {
  try {
    const payload: unknown = JSON.parse(text);
    return payload;
  } catch (err) {
    throw new Error(`Invalid JSON payload: ${messageOf(err)}`, { cause: err });
  }
}

type Flags = Readonly<Record<string, { type: 'boolean' | 'string'; short: string }>>;

export function flags(given: readonly string[], options: Flags) {
  try {
    return parseArgs({ args: bound(given, options), options, allowPositionals: true });
  } catch (err) {
    throw new UsageError(messageOf(err));
  }
}

/** A value belongs to its option whatever it begins with: `-s -ram`. */
function bound(given: readonly string[], options: Flags): string[] {
  const args: string[] = [];
  const rest = given.values();
  for (const arg of rest) {
    const found = Object.entries(options).find(([name, { type, short }]) => {
      return type === 'string' && (arg === `-${short}` || arg === `--${name}`);
    });
    const value = found === undefined ? undefined : rest.next().value;
    args.push(found === undefined || value === undefined ? arg : `--${found[0]}=${value}`);
  }
  return args;
}

export function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function warn(warnings: readonly string[]): void {
  process.stderr.write(warnings.map((text) => `${text}\n`).join(''));
}

export function done(text: string): void {
  process.stderr.write(`${text}\n`);
}
