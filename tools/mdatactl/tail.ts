/*
 * `mdatactl tail`: log records, kept ones first, then as they come, until it is interrupted or the agent ends.
 */
import { createInterface } from 'node:readline';
import { codeOf } from '../../src/lib/errors';
import type { Level } from '../../src/log';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { ControlError, type Client } from './client';

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
  show: (record: JsonObject, line: string) => void,
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
        show(record, line);
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
