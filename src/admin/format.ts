/*
 * Numbers as an operator reads them: durations, sizes, counts. Shared by the daemon and its tools. Pure.
 */

export const SECOND_MS = 1000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** For sentences: `40 ms`, `3 seconds`, `1 minute`, `5 hours`, `12 days`. One unit, rounded down. */
export function inWords(ms: number): string {
  if (ms < SECOND_MS) {
    return `${Math.max(0, Math.round(ms))} ms`;
  }
  if (ms < MINUTE_MS) {
    return counted(Math.floor(ms / SECOND_MS), 'second');
  }
  if (ms < HOUR_MS) {
    return counted(Math.floor(ms / MINUTE_MS), 'minute');
  }
  return ms < 2 * DAY_MS
    ? counted(Math.floor(ms / HOUR_MS), 'hour')
    : counted(Math.floor(ms / DAY_MS), 'day');
}

/** `512 B`, `14 KiB`, `96 MiB`, `1.5 GiB`. */
export function inBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit > 0 && value < 10 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

/** `1 zone`, `3 zones`. @param many where the plural is no plain s */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** File permissions as chmod takes them. */
export function octal(mode: number): string {
  return `0${(mode & 0o7777).toString(8).padStart(3, '0')}`;
}

/** How often each name is there. */
export function countEach<N extends string>(names: readonly N[]): Map<N, number> {
  const counts = new Map<N, number>();
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
