/* `mdatactl zones`, `zone` and `keys` for a person. Pure. */
import type { KeyRow } from '../../src/admin/routes';
import type { ZoneReport, ZoneRow } from '../../src/admin/status';
import { counted, inBytes, inWords } from '../../src/admin/format';
import type { StateRecord } from '../../src/lib/fsm';
import type { MetadataReport } from '../../src/vm/store';
import type { KeptRecord } from '../../src/log';
import type { Colour, Screen } from '../screen';
import type { withHints } from './hints';
import { recordLine } from './records';
import { listing, type Field, type ListingOptions } from '../listing';
import { healthColour } from './show-status';
import { inShort, paragraph, remedyLine } from './text';

/** The columns of `mdatactl zones`. @param now ms since 1970 */
function zoneFields(now: number): readonly Field<ZoneRow>[] {
  return [
    { name: 'zone', also: 'uuid', title: 'ZONE', value: (zone) => zone.zonename },
    { name: 'alias', title: 'ALIAS', value: (zone) => zone.alias },
    { name: 'brand', title: 'BRAND', value: (zone) => zone.brand },
    {
      name: 'state',
      title: 'STATE',
      value: (zone) => zone.state,
      colour: (zone) => (zone.state === 'running' ? undefined : 'dim'),
    },
    {
      name: 'health',
      title: 'HEALTH',
      value: (zone) => zone.health,
      colour: (zone) => (zone.health === 'ok' ? undefined : healthColour(zone.health)),
    },
    { name: 'link', title: 'LINK', value: (zone) => zone.link, colour: linkColourOf },
    { name: 'reasons', title: 'REASONS', value: (zone) => zone.reasons.join(',') || null },
    { name: 'mount', title: 'MOUNT', value: (zone) => zone.mount },
    { name: 'conns', title: 'CONNS', align: 'right', value: (zone) => zone.connections },
    { name: 'reqs', title: 'REQS', align: 'right', value: (zone) => zone.requests },
    {
      name: 'errs',
      title: 'ERRS',
      align: 'right',
      value: (zone) => zone.errors,
      colour: (zone) => (zone.errors > 0 ? 'yellow' : undefined),
    },
    { name: 'refused', title: 'REFUSED', align: 'right', value: (zone) => zone.refusals },
    { name: 'recon', title: 'RECON', align: 'right', value: (zone) => zone.reconnects },
    { name: 'bytesin', title: 'IN', align: 'right', value: (zone) => zone.bytesReceived },
    { name: 'bytesout', title: 'OUT', align: 'right', value: (zone) => zone.bytesSent },
    {
      name: 'last',
      title: 'LAST',
      align: 'right',
      value: (zone) => zone.lastRequest?.at,
      text: ({ lastRequest }) => (lastRequest === null ? '-' : inShort(now - lastRequest.at)),
    },
  ];
}

const DEFAULT_FIELDS = 'zone,alias,brand,state,health,link,reqs,errs,recon,last';
/** Names of all columns of `mdatactl zones`. */
export const ZONE_FIELD_NAMES = zoneFields(0).map(({ name }) => name);
const INDENT = 13;

/**
 * `mdatactl zones`, for a person or a script.
 * @param now ms since 1970
 * @param unhealthyOnly the zones are those that are not healthy
 */
export function showZones(
  zones: readonly ZoneRow[],
  options: ListingOptions,
  screen: Screen,
  now: number,
  unhealthyOnly = false,
): string[] {
  const bare = options.noHeader === true || options.parsable === true;
  if (zones.length === 0 && !bare) {
    return [unhealthyOnly ? 'all zones are healthy' : 'no zones on this node'];
  }
  const sorted = [...zones].sort(byAlias);
  return listing(zoneFields(now), DEFAULT_FIELDS, sorted, options, screen);
}

function byAlias(a: ZoneRow, b: ZoneRow): number {
  const [left, right] = [a.alias ?? a.zonename, b.alias ?? b.zonename];
  return left < right ? -1 : left > right ? 1 : 0;
}

function linkColourOf({ kind, link, state }: ZoneRow): Colour | undefined {
  if (kind === 'socket') {
    return link === 'listening' ? 'green' : 'red';
  }
  if (state !== 'running') {
    return undefined;
  }
  return link === 'connected' ? 'green' : 'yellow';
}

const KEY_FIELDS: readonly Field<KeyRow>[] = [
  { name: 'key', title: 'KEY', value: ({ key }) => key },
  { name: 'bytes', title: 'BYTES', align: 'right', value: ({ bytes }) => bytes },
  { name: 'map', title: 'MAP', value: ({ map }) => map },
];
/** Names of all columns of `mdatactl keys`. */
export const KEY_FIELD_NAMES = KEY_FIELDS.map(({ name }) => name);

/** `mdatactl keys`, for a person or a script: by map and name. No value is in it. */
export function showKeys(
  keys: readonly KeyRow[],
  options: ListingOptions,
  screen: Screen,
): string[] {
  if (keys.length === 0 && options.noHeader !== true && options.parsable !== true) {
    return ['no metadata'];
  }
  const sort = options.sort ?? 'map,key';
  return listing(KEY_FIELDS, KEY_FIELD_NAMES.join(','), keys, { ...options, sort }, screen);
}

/** What is used up to here is shown as nearly full. */
const NEARLY_FULL = 0.8;

/** `mdatactl zone`, for a person. @param now ms since 1970 */
export function showZone(
  zone: ReturnType<typeof withHints>,
  screen: Screen,
  now: number,
): string[] {
  const { paint, width } = screen;
  const line = (label: string, text: string): string[] => paragraph(label, text, INDENT, width);
  const { lastRequest, tally, port, write } = zone;
  return [
    paint('bold', zone.zonename) + `  ${zone.alias ?? ''}`.trimEnd(),
    ...line('brand', zone.brand),
    ...line('state', `${zone.state}${sinceOf(zone.history, now)}`),
    ...line('health', zone.health),
    ...zone.problems.flatMap(({ state, text, remedy }) => [
      ...line('', text).map((each) => paint(healthColour(state), each)),
      remedyLine(remedy, INDENT),
    ]),
    ...line('zonepath', zone.zonepath),
    ...line(
      zone.kind === 'socket' ? 'socket' : 'serial link',
      `${zone.link}${sinceOf(zone.linkHistory, now)}, ${counted(zone.connections, 'connection')}`,
    ),
    ...line('', zone.path),
    ...(zone.mount === null ? [] : line('mount', zone.mount)),
    ...(port === null ? [] : line('port', portLine(port))),
    ...line('VM data', vmLine(zone)),
    ...line(
      'requests',
      `${zone.requests}, ${zone.errors} failed, ${zone.refusals} refused` +
        (tally === null
          ? ''
          : `; ${inBytes(tally.bytesReceived)} in, ${inBytes(tally.bytesSent)} out, ${counted(tally.opened, 'connection')} so far`),
    ),
    ...line(
      'last request',
      lastRequest === null
        ? 'none yet'
        : `${inWords(now - lastRequest.at)} ago: ${`${lastRequest.verb} ${lastRequest.key}`.trim()} -> ${lastRequest.outcome} in ${lastRequest.elapsedMs.toFixed(2)} ms`,
    ),
    ...zone.hints.flatMap(({ asked, meant }) => {
      return line('hint', `there is no ${asked}; the guest may mean ${meant}`);
    }),
    ...(write === null
      ? []
      : line('write', `${write.stage} for ${inWords(write.oldestMs)}, ${write.waiting} waiting`)),
    ...(zone.metadata ? line('metadata', metadataLine(zone.metadata, now)) : []),
    ...(zone.warning === null
      ? []
      : line('warning', `${zone.warning.time} ${zone.warning.text}`).map((each) =>
          paint('yellow', each),
        )),
    ...historyLines('phases of the zone', zone.history.map(inWordsOf), screen),
    ...historyLines('states of its link', zone.linkHistory, screen),
    '',
    paint('bold', 'last records'),
    ...(zone.records.length === 0
      ? ['  none']
      : zone.records.map((r) => `  ${keptLine(r, screen)}`)),
  ];
}

function metadataLine(
  { bytes, bytesMax, keys, keysMax, fileBytes, fileBytesMax, refusals }: MetadataReport,
  now: number,
): string {
  const share = (used: number, most: number): string =>
    `${inBytes(used)} of ${inBytes(most)}${used >= NEARLY_FULL * most ? ' (nearly full)' : ''}`;
  const refused = refusals.map(
    ({ limit, count, at }) => `; ${count} refused by "${limit}", the last ${inWords(now - at)} ago`,
  );
  const full = keys >= NEARLY_FULL * keysMax ? ' (nearly full)' : '';
  return `${share(bytes, bytesMax)}, ${keys} of ${keysMax} keys${full}; the file ${share(fileBytes, fileBytesMax)}${refused.join('')}`;
}

function portLine(port: NonNullable<ZoneReport['port']>): string {
  const { attempts, connects, reconnects, held, droppedBytes, connectedAfterMs, answeredAfterMs } =
    port;
  const after = (ms: number | null, what: string): string =>
    ms === null ? '' : `, ${what} ${inWords(ms)} after the boot`;
  return (
    `${counted(attempts, 'try', 'tries')}, ${counted(connects, 'connection')}, ${counted(reconnects, 'reconnect')}` +
    `, held by another ${counted(held, 'time')}, ${inBytes(droppedBytes)} dropped` +
    after(connectedAfterMs, 'connected') +
    after(answeredAfterMs, 'first answer')
  );
}

function vmLine({ vm }: ZoneReport): string {
  if (vm === null) {
    return 'none: vminfod has not reported it';
  }
  const com2 = vm.com2 === undefined ? '' : `, com2 ${vm.com2}`;
  return `from vminfod: ${vm.zoneState ?? 'no state'}${com2}`;
}

type History = readonly StateRecord<string>[];

function sinceOf(history: History, now: number): string {
  const last = history.at(-1);
  return last === undefined ? '' : ` for ${inWords(now - last.since)}`;
}

/** The agent's own word, for all states of a zone that does not run, is not one of the platform's. */
function inWordsOf(record: StateRecord<string>): StateRecord<string> {
  return record.state === 'halted' ? { ...record, state: 'not running' } : record;
}

function historyLines(title: string, history: History, { paint }: Screen): string[] {
  return history.length === 0
    ? []
    : [
        '',
        paint('bold', title),
        ...history.map(({ state, since }) => `  ${new Date(since).toISOString()}  ${state}`),
      ];
}

function keptLine({ time, level, msg, fields }: KeptRecord, screen: Screen): string {
  return recordLine({ time, level, msg, ...fields }, { ...screen, width: screen.width - 2 });
}
