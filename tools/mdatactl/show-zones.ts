/* `mdatactl zones` and `mdatactl zone` for a person. Pure. */
import type { ZoneReport, ZoneRow } from '../../src/admin/zone-report';
import { counted, inBytes, inShort, inWords } from '../../src/admin/format';
import type { KeptRecord } from '../../src/log';
import type { Colour, Screen } from './paint';
import { recordLine } from './record-line';
import { paragraph, remedyLines, table, type Cell, type Column } from './table';

const COLUMNS: readonly Column[] = [
  { title: 'ZONE', least: 8 },
  { title: 'ALIAS', soft: 12, least: 6 },
  { title: 'BRAND', soft: 8, least: 6 },
  { title: 'STATE', least: 6 },
  { title: 'LINK', least: 6 },
  { title: 'REQS', align: 'right' },
  { title: 'ERRS', align: 'right' },
  { title: 'RECON', align: 'right' },
  { title: 'LAST', align: 'right' },
];
const INDENT = 13;

/** `mdatactl zones`, for a person. @param now ms since 1970 */
export function showZones(zones: readonly ZoneRow[], screen: Screen, now: number): string[] {
  if (zones.length === 0) {
    return ['no zones on this node'];
  }
  const rows = [...zones].sort(byAlias).map((zone): Cell[] => {
    const linkColour = linkColourOf(zone);
    return [
      { text: zone.zonename },
      { text: zone.alias ?? '-' },
      { text: zone.brand },
      { text: zone.state, ...(zone.state === 'running' ? {} : { colour: 'dim' as const }) },
      { text: zone.link, ...(linkColour === undefined ? {} : { colour: linkColour }) },
      { text: String(zone.requests) },
      { text: String(zone.errors), ...(zone.errors > 0 ? { colour: 'yellow' as const } : {}) },
      { text: zone.reconnects === null ? '-' : String(zone.reconnects) },
      { text: zone.lastRequest === null ? '-' : inShort(now - zone.lastRequest.at) },
    ];
  });
  return table(COLUMNS, rows, screen);
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

/** `mdatactl zone`, for a person. @param now ms since 1970 */
export function showZone(zone: ZoneReport, screen: Screen, now: number): string[] {
  const { paint, width } = screen;
  const line = (label: string, text: string): string[] => paragraph(label, text, INDENT, width);
  const { lastRequest, tally, port, write } = zone;
  return [
    paint('bold', zone.zonename) + `  ${zone.alias ?? ''}`.trimEnd(),
    ...line('brand', zone.brand),
    ...line('state', `${zone.state}${sinceOf(zone.history, now)}`),
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
    ...(write === null
      ? []
      : line('write', `${write.stage} for ${inWords(write.oldestMs)}, ${write.waiting} waiting`)),
    ...zone.troubles.flatMap(({ what, remedy }) => [
      ...line('trouble', what).map((each) => paint('yellow', each)),
      ...remedyLines(remedy, INDENT, width),
    ]),
    ...historyLines('states of the zone', zone.history, screen),
    ...historyLines('states of its link', zone.linkHistory, screen),
    '',
    paint('bold', 'last records'),
    ...(zone.records.length === 0
      ? ['  none']
      : zone.records.map((r) => `  ${keptLine(r, screen)}`)),
  ];
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
    return 'none: vminfod has not told of it';
  }
  const com2 = vm.com2 === undefined ? '' : `, com2 ${vm.com2}`;
  return `from vminfod: ${vm.zoneState ?? 'no state'}${com2}`;
}

function sinceOf(history: ZoneReport['history'], now: number): string {
  const last = history.at(-1);
  return last === undefined ? '' : ` for ${inWords(now - last.since)}`;
}

function historyLines(title: string, history: ZoneReport['history'], { paint }: Screen): string[] {
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
