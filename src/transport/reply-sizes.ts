/*
 * How large a zone's large replies were when they were built last: one for which there is no room is not fetched, since
 * a long value is read from its file each time. A size that changed meanwhile is found out when the reply is fetched.
 *
 * Each zone's quota has one, and its connections' reply queues ask it.
 */
import type { DataRequest } from '../protocol/request';
import { SMALL_BYTES } from './link';

/** Large replies of a zone whose size is remembered: their values are 4 MiB together, of 16 KiB at least. */
const MAX_SIZES = 256;
/** A longer key cannot be put any more. */
const MAX_KEY_CHARS = 1024;

/** Of replies to KEYS, GETALL and single GETs. */
export class ReplySizes {
  private readonly bytes = new Map<string, number>();

  /**
   * Room that a reply needs before it is fetched, bytes; 0 where it was small, or is unknown.
   * @param maxBytes the most that a reply may come to: a GETALL is taken for that large until one was built
   */
  expected(request: DataRequest, maxBytes: number): number {
    const bytes = this.bytes.size === 0 ? undefined : this.bytes.get(labelOf(request));
    if (bytes === undefined) {
      return request.kind === 'getall' ? maxBytes : 0;
    }
    return bytes > SMALL_BYTES ? bytes : 0;
  }

  note(request: DataRequest, bytes: number): void {
    if (bytes <= SMALL_BYTES && request.kind !== 'getall') {
      if (this.bytes.size > 0) {
        this.bytes.delete(labelOf(request));
      }
      return;
    }
    const name = labelOf(request);
    if (name.length <= MAX_KEY_CHARS) {
      this.bytes.set(name, bytes);
    }
    const [oldest] = this.bytes.keys();
    if (this.bytes.size > MAX_SIZES && oldest !== undefined) {
      this.bytes.delete(oldest);
    }
  }
}

function labelOf(request: DataRequest): string {
  return 'key' in request ? `${request.kind} ${request.key}` : request.kind.toUpperCase();
}
