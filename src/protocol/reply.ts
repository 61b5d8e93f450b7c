/*
 * What a guest is told, and its bytes. (spec: protocol sections 5, 7)
 *
 * A reply is one buffer, for one write: the platform's own client waits for the first octet of a reply
 * and not at all for the others, so a reply that leaves in two pieces fails.
 */
import { buildFrame } from './frame';
import type { LineRequest, Wire } from './request';

/** The limits of a zone that a change can meet. Names are label values of a metric: keep them. */
export type ChangeLimit =
  | 'keys' // too many keys
  | 'size' // too many octets in all
  | 'writes' // slowed down to its share of writes
  | 'waiting-writes'; // too many of them, or too large, wait already

/** How a change fared on its way to disk: for the record, nothing of it is sent. */
export interface ChangeCourse {
  /** It took nothing of the zone's share of writes: it joined another, or was turned away. */
  readonly free?: true;
  /** The limit that it met: it waited for it, or was refused by it. */
  readonly limit?: ChangeLimit;
}

/**
 * A data answer. `text` is the value, the list of names, or the reason of a failure. `change` is there
 * where a change was asked of the VM's writer.
 */
export type Reply =
  | { readonly kind: 'success'; readonly text: string; readonly change?: ChangeCourse }
  | { readonly kind: 'notfound' }
  | { readonly kind: 'failure'; readonly text: string; readonly change?: ChangeCourse };

// Never written to, so one copy of each serves all connections.
const INVALID_COMMAND = Buffer.from('invalid command\n', 'latin1');
const V2_OK = Buffer.from('V2_OK\n', 'latin1');
const NOTFOUND = Buffer.from('NOTFOUND\n', 'latin1');
const FAILURE = Buffer.from('FAILURE\n', 'latin1');

/** The bytes of a data answer, LF included. V1 has no room for the reason of a failure. */
export function encodeReply(wire: Wire, reply: Reply): Buffer {
  switch (reply.kind) {
    case 'success':
      return wire.version === 1
        ? Buffer.from(`SUCCESS\n${stuff(reply.text)}\n.\n`, 'utf8')
        : buildFrame(wire.id, 'SUCCESS', reply.text);
    case 'notfound':
      return wire.version === 1 ? NOTFOUND : buildFrame(wire.id, 'NOTFOUND', '');
    case 'failure':
      return wire.version === 1 ? FAILURE : buildFrame(wire.id, 'FAILURE', reply.text);
    default: {
      const never: never = reply;
      return never;
    }
  }
}

/** The bytes of an answer that needs no data; null where silence is the answer. */
export function replyToLine(request: LineRequest): Buffer | null {
  switch (request.kind) {
    case 'reset':
      return INVALID_COMMAND;
    case 'negotiate':
      return request.accepted ? V2_OK : FAILURE;
    case 'malformed':
      return encodeFailure(request.wire, request.text);
    case 'unknown':
      return encodeFailure(request.wire, `Unknown command ${request.verb}`);
    case 'too-large':
      return encodeFailure(request.wire, 'Request too large');
    case 'broken':
      return null;
    default: {
      const never: never = request;
      return never;
    }
  }
}

function encodeFailure(wire: Wire, text: string): Buffer {
  return encodeReply(wire, { kind: 'failure', text });
}

/**
 * V1 ends a value with a line that is a dot, so a line of the value that begins with one gets another.
 * Only LF makes a line: receivers undo the doubling there and nowhere else.
 */
function stuff(text: string): string {
  const stuffed = text.includes('\n.') ? text.replaceAll('\n.', '\n..') : text;
  return stuffed.startsWith('.') ? `.${stuffed}` : stuffed;
}
