/*
 * Which lines are not requests of the protocol, and what a record may show of one. Used by the connections.
 */
import type { Request } from '../protocol/request';

/** True: not a request of the protocol; it is answered FAILURE or `invalid command`. */
export function isBadLine(request: Request): boolean {
  switch (request.kind) {
    case 'reset':
      return !request.bare;
    case 'negotiate':
      return !request.accepted;
    case 'malformed':
      return request.wire.version === 1;
    case 'unknown':
    case 'too-large':
      return true;
    default:
      return false;
  }
}

/** What a record may show of a broken frame: its header. Base64 may be a value's. */
export function headOf(line: Buffer): string {
  return /^V2[ 0-9a-fA-F]{0,30}/.exec(line.toString('latin1', 0, 32))?.[0] ?? '';
}
