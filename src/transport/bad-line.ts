/*
 * Which lines are not requests of the protocol, and what a record may show of one. Used by the connections.
 */
import type { Request } from '../protocol/request';
import type { Refusal } from './link';

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

/** Under what reason a line is counted and logged when it is read, and with what detail; null where it is not. */
export function refusalOf(
  request: Request,
  bytes: number,
): { readonly reason: Refusal; readonly detail: Readonly<Record<string, unknown>> } | null {
  const { kind } = request;
  if (kind === 'broken') {
    // Only the header: base64 may be a value's.
    const head = /^V2[ 0-9a-fA-F]{0,30}/.exec(request.line.toString('latin1', 0, 32))?.[0] ?? '';
    return { reason: 'broken-frame', detail: { reason: request.reason, bytes, head } };
  }
  // One that is too large was counted where it was cut.
  return isBadLine(request) && kind !== 'too-large'
    ? { reason: 'bad-line', detail: { kind, bytes } }
    : null;
}
