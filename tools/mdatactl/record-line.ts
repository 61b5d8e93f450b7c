/* One log record on one line of a terminal. Pure. */
import { isJsonObject, own, ownString, type JsonObject } from '../../src/metadata/vm-data';
import type { Colour, Screen } from '../screen';
import { cut } from './text';

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
