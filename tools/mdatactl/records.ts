/*
 * `mdatactl tail`: log records, kept ones first, then as they come, until it is interrupted or the agent ends; and one
 * record on one line of a terminal.
 */
import { createInterface } from 'node:readline';
import { codeOf } from '../../src/lib/errors';
import type { Level } from '../../src/log';
import {
  isJsonObject,
  own,
  ownString,
  parseJsonObject,
  type JsonObject,
} from '../../src/metadata/vm-data';
import type { Colour, Screen } from '../screen';
import { ControlError, type Client } from './client';
import { withHint } from './hints';
import { cut } from './text';

export interface FollowOptions {
  /** Absent: records of all zones, and of none. */
  readonly zonename?: string;
  /** The least level. */
  readonly level?: Level;
  /** So many kept records first. */
  readonly lines?: number;
  /** Kept records from this time on first, ms since 1970. */
  readonly since?: number;
  /** False: ends after the kept records. */
  readonly follow: boolean;
}

/** Ends when the reader of our output is gone. @throws ControlError when the agent ends */
export async function follow(
  client: Client,
  { zonename, level, lines, since, follow: live }: FollowOptions,
  show: (record: JsonObject) => void,
): Promise<void> {
  const query = new URLSearchParams({
    ...(zonename !== undefined && { zone: zonename }),
    ...(level !== undefined && { level }),
    ...(lines !== undefined && { last: String(lines) }),
    ...(since !== undefined && { since: String(since) }),
    ...(!live && { live: 'no' }),
  });
  const response = await client.open({ path: `/tail?${query.toString()}` });
  try {
    for await (const line of createInterface({ input: response })) {
      const record = parseJsonObject(line);
      if (record !== undefined) {
        show(withHint(record));
      }
    }
  } catch (err) {
    // It was killed: for a follower, an end as any other.
    if (codeOf(err) !== 'ECONNRESET') {
      throw err;
    }
  }
  if (!live) {
    return;
  }
  throw new ControlError('the agent ended: no more records come from it', [
    'svcs -xv mdatad says why; run this again when it is back',
  ]);
}

const LEVELS: ReadonlyMap<unknown, readonly [name: string, colour: Colour]> = new Map<
  unknown,
  readonly [string, Colour]
>([
  [10, ['TRACE', 'dim']],
  [20, ['DEBUG', 'dim']],
  [30, ['INFO', 'green']],
  [40, ['WARN', 'yellow']],
  [50, ['ERROR', 'red']],
  [60, ['FATAL', 'red']],
  ['trace', ['TRACE', 'dim']],
  ['debug', ['DEBUG', 'dim']],
  ['info', ['INFO', 'green']],
  ['warn', ['WARN', 'yellow']],
  ['error', ['ERROR', 'red']],
]);
/** What each record has, or what the line shows anyway. */
const KNOWN = new Set([
  'name',
  'hostname',
  'pid',
  'level',
  'time',
  'v',
  'msg',
  'zonename',
  'brand',
  'hint',
]);
/** Enough to tell the zones of a node apart. */
const ZONE_CHARS = 8;

/** A record that is grave is shown whole: what is wrong stands at its end. */
const GRAVE = new Set(['WARN', 'ERROR', 'FATAL']);

/** `12:30:01.123 INFO  a5894692 handled GET sdc:uuid response=SUCCESS elapsed=0.4` */
export function recordLine(record: JsonObject, { paint, width }: Screen): string {
  const time = (ownString(record, 'time') ?? '').slice(11, 23);
  const [level, colour] = LEVELS.get(own(record, 'level')) ?? ['?', 'dim'];
  const zonename = ownString(record, 'zonename');
  const zone = zonename === undefined ? '' : `${zonename.slice(0, ZONE_CHARS)} `;
  const fields = Object.entries(record).flatMap(([name, value]) =>
    KNOWN.has(name) ? [] : shown(name, value),
  );
  const hint = ownString(record, 'hint');
  const hinted = hint === undefined ? '' : `(there is ${hint})`;
  const said = [ownString(record, 'msg') ?? '', keyOf(record), hinted, ...fields];
  const text = `${zone}${said.filter((part) => part !== '').join(' ')}`;
  const room = width - time.length - 7;
  return `${time} ${paint(colour, level.padEnd(5))} ${GRAVE.has(level) ? text : cut(text, room)}`;
}

/** The key of a request's record, which its message leaves out. */
function keyOf(record: JsonObject): string {
  const query = own(record, 'query');
  return isJsonObject(query) ? (ownString(query, 'arg') ?? '') : '';
}

/** Of an error its message counts, of a query what the message does not say. */
function shown(name: string, value: unknown): string[] {
  if (name === 'err' && isJsonObject(value)) {
    return [`err="${ownString(value, 'message') ?? ''}"`];
  }
  if (name === 'query' && isJsonObject(value)) {
    const elapsed = own(value, 'elapsed');
    return typeof elapsed === 'number' ? [`elapsed=${elapsed.toFixed(2)}ms`] : [];
  }
  if (value === undefined) {
    return [];
  }
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return [`${name}=${/\s/.test(text) ? JSON.stringify(text) : text}`];
}
