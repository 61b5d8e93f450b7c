/* Options of mdatactl's commands and how their values are read. Pure. */
import { InvalidArgumentError, type Command } from 'commander';
import type { ListingOptions } from '../listing';

/** Of commands that print a table. */
export interface ListOptions {
  readonly header: boolean;
  readonly parsable?: true;
  readonly fields?: string;
  readonly sort?: string;
}

/** Adds the options of vmadm's and zfs' lists. */
export function listed(command: Command): Command {
  return command
    .option('-H, --no-header', 'no header line')
    .option('-p, --parsable', 'for scripts: cells between colons, and no header')
    .option('-o, --fields <names>', 'which columns, separated by commas')
    .option('-s, --sort <names>', 'what to sort by; -NAME sorts descending');
}

export function listingOf({ header, parsable, fields, sort }: ListOptions): ListingOptions {
  return { noHeader: !header, parsable, fields, sort };
}

/** Seconds between two screens. */
export function interval(text: string): number {
  const value = Number(text);
  if (!(value >= 0.1 && value <= 3600)) {
    throw new InvalidArgumentError('seconds from 0.1 to 3600 are needed');
  }
  return value;
}

export function count(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('a whole number from 1 is needed');
  }
  return value;
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/**
 * A time, or how long ago: `90s`, `5m`, `2h`, `1d`, `2026-11-26T22:00:00Z`.
 * @returns ms since 1970
 */
export function since(text: string, now = Date.now()): number {
  const [, number = '', unit = ''] = /^(\d+)([smhd])$/.exec(text) ?? [];
  const unitMs = UNIT_MS.get(unit);
  const time = unitMs === undefined ? Date.parse(text) : now - Number(number) * unitMs;
  if (!/\D/.test(text) || Number.isNaN(time)) {
    throw new InvalidArgumentError('a duration (90s, 5m, 2h, 1d) or a time (ISO 8601) is needed');
  }
  return Math.max(0, time);
}
