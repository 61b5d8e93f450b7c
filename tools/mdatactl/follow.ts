/*
 * `mdatactl tail`: log records as they come, until it is interrupted or the agent ends.
 */
import { createInterface } from 'node:readline';
import { codeOf } from '../../src/lib/errors';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { ControlError, type Client } from './client';

/** @param zonename null: all records. Ends when the reader of our output is gone. */
export async function follow(
  client: Client,
  zonename: string | null,
  show: (record: JsonObject, line: string) => void,
): Promise<void> {
  const path = zonename === null ? '/tail' : `/tail?zone=${encodeURIComponent(zonename)}`;
  const response = await client.open({ path });
  try {
    for await (const line of createInterface({ input: response })) {
      const record = parseJsonObject(line);
      if (record !== undefined) {
        show(record, line);
      }
    }
  } catch (err) {
    // It was killed: for who follows, an end as any other.
    if (codeOf(err) !== 'ECONNRESET') {
      throw err;
    }
  }
  throw new ControlError('the agent ended: no more records come from it', [
    'svcs -xv mdatad tells why; run this again when it is back',
  ]);
}
