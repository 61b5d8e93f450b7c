/*
 * `mdatactl top`: the busiest zones, live.
 *
 *   poll /zones --difference to the poll before--> rates --> sort, filter --> one screen
 *
 * The agent counts for each zone since it knows it; rates come from two polls. Keys: r e b l sort by requests,
 * errors, bytes, latency; f filters by alias, name or brand; p pauses; q quits. Without a terminal it prints
 * a number of screens, one below the other, as `top -b` does. It changes nothing.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ZoneRow } from '../../src/admin/status';
import { counted, inBytes } from '../../src/admin/format';
import type { Client } from './client';
import { listing, type Field } from '../listing';
import { plain, type Screen } from '../screen';
import { cut } from './text';

export const SORT_KEYS = ['requests', 'errors', 'bytes', 'latency'] as const;
export type SortKey = (typeof SORT_KEYS)[number];

/** What a zone did between two polls. */
export interface ZoneRate {
  readonly zone: ZoneRow;
  readonly requestsPerSecond: number;
  readonly errorsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Mean from the last byte of a request to its reply, ms; null without a request. */
  readonly latencyMs: number | null;
}

/** What the user chose. */
export interface View {
  readonly sort: SortKey;
  readonly filter: string;
  readonly paused: boolean;
  /** The filter is being typed. */
  readonly typing: boolean;
}

/** What an alias and the last request may take of 80 columns. */
const ALIAS_WIDTH = 16;
const BRAND_WIDTH = 8;
const FIELDS: readonly Field<ZoneRate>[] = [
  { name: 'zone', title: 'ZONE', value: ({ zone }) => zone.zonename },
  { name: 'alias', title: 'ALIAS', value: ({ zone }) => zone.alias },
  { name: 'brand', title: 'BRAND', value: ({ zone }) => zone.brand },
  {
    name: 'requests',
    title: 'REQ/S',
    align: 'right',
    value: (rate) => rate.requestsPerSecond.toFixed(1),
  },
  {
    name: 'errors',
    title: 'ERR/S',
    align: 'right',
    value: (rate) => rate.errorsPerSecond.toFixed(1),
  },
  {
    name: 'bytes',
    title: 'BYTES/S',
    align: 'right',
    value: (rate) => inBytes(Math.round(rate.bytesPerSecond)),
  },
  {
    name: 'latency',
    title: 'MS',
    align: 'right',
    value: (rate) => rate.latencyMs?.toFixed(2),
  },
  { name: 'conns', title: 'CONNS', align: 'right', value: ({ zone }) => zone.connections },
  {
    name: 'last',
    title: 'LAST',
    value: ({ zone: { lastRequest } }) =>
      lastRequest === null ? null : `${lastRequest.verb} ${lastRequest.key}`.trim(),
  },
];
export const TOP_FIELD_NAMES = FIELDS.map(({ name }) => name);
const ALL_FIELDS = TOP_FIELD_NAMES.join(',');

/** Rates of all zones. @param seconds between the polls; a zone that is new counts from zero */
export function ratesOf(
  before: readonly ZoneRow[],
  after: readonly ZoneRow[],
  seconds: number,
): ZoneRate[] {
  const known = new Map(before.map((zone) => [zone.zonename, zone]));
  return after.map((zone) => {
    const old = known.get(zone.zonename);
    // Counts start again when the agent does.
    const since = (read: (row: ZoneRow) => number): number => {
      const difference = read(zone) - (old === undefined ? 0 : read(old));
      return difference < 0 ? read(zone) : difference;
    };
    const requests = since((row) => row.requests);
    return {
      zone,
      requestsPerSecond: requests / seconds,
      errorsPerSecond: since((row) => row.errors) / seconds,
      bytesPerSecond: since((row) => row.bytesReceived + row.bytesSent) / seconds,
      latencyMs: requests === 0 ? null : since((row) => row.elapsedMs) / requests,
    };
  });
}

const WEIGHTS: Readonly<Record<SortKey, (rate: ZoneRate) => number>> = {
  requests: (rate) => rate.requestsPerSecond,
  errors: (rate) => rate.errorsPerSecond,
  bytes: (rate) => rate.bytesPerSecond,
  latency: (rate) => rate.latencyMs ?? -1,
};

/** The lines of one screen. @param rows most lines that it may have @throws ListingError where a field is none */
export function topScreen(
  rates: readonly ZoneRate[],
  { sort, filter, paused, typing }: View,
  screen: Screen,
  rows: number,
  fields = ALL_FIELDS,
): string[] {
  const word = filter.toLowerCase();
  const shown = rates
    .filter(({ zone }) =>
      [zone.zonename, zone.alias ?? '', zone.brand].some((text) =>
        text.toLowerCase().includes(word),
      ),
    )
    .sort(
      (a, b) =>
        WEIGHTS[sort](b) - WEIGHTS[sort](a) ||
        (a.zone.alias ?? a.zone.zonename).localeCompare(b.zone.alias ?? b.zone.zonename),
    );
  const total = (read: (rate: ZoneRate) => number): number =>
    rates.reduce((sum, rate) => sum + read(rate), 0);
  const head = [
    `${counted(rates.length, 'zone')}, ${total((r) => r.requestsPerSecond).toFixed(1)} requests/s`,
    `${total((r) => r.errorsPerSecond).toFixed(1)} errors/s`,
    `${inBytes(Math.round(total((r) => r.bytesPerSecond)))}/s`,
    `by ${sort}`,
    ...(paused ? ['paused'] : []),
  ].join(', ');
  const keys = typing
    ? `filter: ${filter}_  (Enter keeps it, Esc clears it)`
    : `r e b l sort  f filter${filter === '' ? '' : ` (${filter})`}  p pause  q quit`;
  const room = Math.max(1, rows - 3);
  // In a pipe every cell is whole.
  const fit = (text: string, width: number): string => (screen.terminal ? cut(text, width) : text);
  const fitted = shown.slice(0, room).map((rate) => {
    const { alias, brand } = rate.zone;
    const short = { alias: fit(alias ?? '-', ALIAS_WIDTH), brand: fit(brand, BRAND_WIDTH) };
    return { ...rate, zone: { ...rate.zone, ...short } };
  });
  const { terminal } = screen;
  return [
    screen.paint('bold', fit(head, screen.width)),
    screen.paint('dim', fit(keys, screen.width)),
    ...listing(FIELDS, fields, fitted, {}, { terminal, paint: plain }).map((line) =>
      fit(line, screen.width),
    ),
  ];
}

/** What a key does to the view; null: quit. @param key as the terminal sends it */
export function pressed(view: View, key: string): View | null {
  if (key === '\u0003') {
    return null;
  }
  if (view.typing) {
    switch (key) {
      case '\r':
      case '\n':
        return { ...view, typing: false };
      case '\u001b':
        return { ...view, typing: false, filter: '' };
      case '\u007f':
      case '\b':
        return { ...view, filter: view.filter.slice(0, -1) };
      default:
        return /^[\x20-\x7e]+$/.test(key) ? { ...view, filter: view.filter + key } : view;
    }
  }
  switch (key) {
    case 'q':
      return null;
    case 'r':
    case 'e':
    case 'b':
    case 'l':
      return { ...view, sort: SORT_KEYS.find((word) => word.startsWith(key)) ?? view.sort };
    case 'f':
    case '/':
      return { ...view, typing: true };
    case 'p':
    case ' ':
      return { ...view, paused: !view.paused };
    default:
      return view;
  }
}

export interface TopOptions {
  readonly sort: SortKey;
  readonly intervalMs: number;
  /** Ends after so many screens; undefined: when the user quits. */
  readonly screens: number | undefined;
  /** Names of columns, separated by commas; undefined: all. */
  readonly fields: string | undefined;
  /** For scripts: one JSON object a line, with the rates of all zones. */
  readonly json: boolean;
}

/** Runs until the user quits, the screens are printed, or the agent is gone (then it throws ControlError). */
export async function runTop(
  client: Client,
  { sort, intervalMs, screens, fields, json }: TopOptions,
  screenNow: () => Screen,
): Promise<void> {
  const { stdin, stdout } = process;
  const live = stdout.isTTY && stdin.isTTY && screens === undefined && !json;
  const quit = new AbortController();
  let view: View = { sort, filter: '', paused: false, typing: false };
  let rates: ZoneRate[] = [];
  const draw = (): void => {
    if (json) {
      const zones = rates.map(({ zone: { zonename, alias, brand, connections }, ...perSecond }) => {
        return { zonename, alias, brand, connections, ...perSecond };
      });
      stdout.write(`${JSON.stringify({ time: new Date(), zones })}\n`);
      return;
    }
    const lines = topScreen(rates, view, screenNow(), live ? stdout.rows : Infinity, fields);
    // Home, each line cleared to its end, and all below it: no flicker.
    stdout.write(
      live
        ? `\u001b[H${lines.map((line) => `${line}\u001b[K\r\n`).join('')}\u001b[J`
        : `${lines.slice(0, 1).concat(lines.slice(2)).join('\n')}\n\n`,
    );
  };
  const onKey = (chunk: Buffer): void => {
    const next = pressed(view, chunk.toString('latin1'));
    if (next === null) {
      quit.abort();
      return;
    }
    view = next;
    draw();
  };
  if (live) {
    stdin.setRawMode(true).on('data', onKey);
    stdout.on('resize', draw).write('\u001b[?1049h\u001b[?25l');
  }
  try {
    let before = await client.ask('zones', { path: '/zones' });
    let at = performance.now();
    for (let printed = 0; screens === undefined || printed < screens; printed++) {
      await delay(intervalMs, undefined, { signal: quit.signal });
      if (view.paused) {
        continue;
      }
      const after = await client.ask('zones', { path: '/zones' });
      const now = performance.now();
      rates = ratesOf(before, after, (now - at) / 1000);
      [before, at] = [after, now];
      draw();
    }
  } catch (err) {
    if (!quit.signal.aborted) {
      throw err;
    }
  } finally {
    if (live) {
      stdout.off('resize', draw).write('\u001b[?25h\u001b[?1049l');
      stdin.off('data', onKey).setRawMode(false).pause();
    }
  }
}
