/*
 * Tables with the options that vmadm's and zfs' lists have: -H no header, -p for scripts, -o columns, -s order.
 *
 * In a pipe and in a file every cell is whole. On a terminal a uuid is shown by its first eight digits, which every
 * command takes back; nothing else is shortened. Used by mdatactl and simcn. Pure.
 */

import stringWidth from 'string-width';
import type { Colour, Screen } from './screen';

/** One column. */
export interface Field<T> {
  /** As `-o` and `-s` take it. */
  readonly name: string;
  /** Another name, as of vmadm's. */
  readonly also?: string;
  readonly title: string;
  readonly align?: 'right';
  /** Undefined or null: it has none, shown as `-`, or as nothing with -p. */
  readonly value: (row: T) => string | number | boolean | null | undefined;
  /** For people, where that differs from the value: `3 s` for 3000. */
  readonly text?: (row: T) => string;
  readonly colour?: (row: T) => Colour | undefined;
}

export interface ListingOptions {
  readonly noHeader?: boolean | undefined;
  /** No header, and cells separated by a colon; a colon or backslash within a cell is escaped with a backslash. */
  readonly parsable?: boolean | undefined;
  /** Names of fields, separated by commas. */
  readonly fields?: string | undefined;
  /** Names of fields, separated by commas; `-` before one: descending. */
  readonly sort?: string | undefined;
}

/** A field was asked for that there is not; the message lists those that there are. */
export class ListingError extends Error {}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const SHORT_UUID = 8;
const GAP = '  ';

/**
 * The lines of a table.
 * @param all every field that may be asked for
 * @param defaults names of the fields that are shown without -o, as -o takes them
 * @throws ListingError
 */
export function listing<T>(
  all: readonly Field<T>[],
  defaults: string,
  rows: readonly T[],
  { noHeader = false, parsable = false, fields = defaults, sort }: ListingOptions,
  { terminal, paint }: Pick<Screen, 'terminal' | 'paint'>,
): string[] {
  const shown = fields.split(',').map((name) => fieldNamed(all, name));
  const sorted = sort === undefined ? rows : [...rows].sort(orderOf(all, sort));
  if (parsable) {
    const line = (cells: readonly string[]): string =>
      cells.map((cell) => cell.replace(/[\\:]/g, '\\$&')).join(':');
    return sorted.map((row) => line(shown.map(({ value }) => String(value(row) ?? ''))));
  }
  const texts = sorted.map((row) => shown.map((field) => cellOf(field, row, terminal)));
  const widths = shown.map(({ title }, i) =>
    Math.max(noHeader ? 0 : title.length, ...texts.map((row) => stringWidth(row[i] ?? ''))),
  );
  const padded = (text: string, i: number): string => {
    const room = ' '.repeat(Math.max(0, (widths[i] ?? 0) - stringWidth(text)));
    return shown[i]?.align === 'right' ? `${room}${text}` : `${text}${room}`;
  };
  const lines = sorted.map((row, r) =>
    shown
      .map(({ colour }, i) => {
        const text = padded(texts[r]?.[i] ?? '', i);
        const wanted = colour?.(row);
        return wanted === undefined ? text : paint(wanted, text);
      })
      .join(GAP)
      .trimEnd(),
  );
  const head = shown.map(({ title }, i) => padded(title, i)).join(GAP);
  return noHeader ? lines : [paint('bold', head.trimEnd()), ...lines];
}

function cellOf<T>({ value, text }: Field<T>, row: T, terminal: boolean): string {
  const cell = text === undefined ? String(value(row) ?? '-') : text(row);
  return terminal && UUID.test(cell) ? cell.slice(0, SHORT_UUID) : cell;
}

function fieldNamed<T>(all: readonly Field<T>[], name: string): Field<T> {
  const found = all.find((field) => field.name === name || field.also === name);
  if (found === undefined) {
    throw new ListingError(
      `no field is named ${name}; there are ${all.map((field) => field.name).join(', ')}`,
    );
  }
  return found;
}

/** Rows without a value come last, whatever the direction. */
function orderOf<T>(all: readonly Field<T>[], sort: string): (a: T, b: T) => number {
  const keys = sort.split(',').map((word) => ({
    field: fieldNamed(all, word.replace(/^[-+]/, '')),
    sign: word.startsWith('-') ? -1 : 1,
  }));
  return (a, b) => {
    for (const { field, sign } of keys) {
      const [left, right] = [field.value(a) ?? null, field.value(b) ?? null];
      if (left === right) {
        continue;
      }
      if (left === null || right === null) {
        return left === null ? 1 : -1;
      }
      return left < right ? -sign : sign;
    }
    return 0;
  };
}
