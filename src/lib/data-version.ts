/*
 * The version of a zone's data, for whoever waits until it changes: equal versions are the same data. The
 * store (vm/data-version.ts) makes them, and the waiting watches (transport/watches.ts) compare them.
 */

export interface DataVersion {
  readonly text: string;
  /** False: the data may change once more without looking different. */
  readonly settled: boolean;
}
