/*
 * What every link has in common: the path a zone's requests come in by, and its limits. It is made and ended by its zone,
 * and leaves to `handle` what a request means. Two exist: socket-server (OS brands, we listen) and serial-link (HVM brands,
 * we connect to the hypervisor's port).
 *
 * Every limit is configurable (section `limits`). What a zone can make us hold, at worst, with `c` connections open
 * (`zoneBytes`):
 *
 *   requests   c x 5 x SMALL_BYTES: one read of the kernel's buffer and one unfinished line each; and one
 *              connection at a time that has more than that, 3 x lineBytes while its line is decoded
 *   replies    replyBytes, or the one reply that is larger; and c x SMALL_BYTES of small ones
 *
 * With the defaults that is 16 MiB for a zone that tries, and some KiB for one that does not. All zones together get
 * what ZONES_AT_LIMIT of them may hold (zone-quota.ts).
 */
import type { PeerCredential } from '../platform/libzonecfg';
import { CHANGE_LIMITS, type Reply } from '../protocol/reply';
import type { DataRequest, Request } from '../protocol/request';

/** Where a request came from. `peer` is null on a serial port: the hypervisor stands between. */
export interface Origin {
  readonly zonename: string;
  readonly peer: PeerCredential | null;
  /** The peer may only read. */
  readonly readOnly?: boolean;
}

/**
 * Answers a request that needs the VM's data. Never throws; a promise never rejects and settles within 30 s. A read that
 * has not begun when `isWanted` says no is not executed, and its reply is of no meaning.
 */
export type Handle = (
  origin: Origin,
  request: DataRequest,
  isWanted?: () => boolean,
) => Reply | Promise<Reply>;

/** Why a link refused or dropped something. Names are label values of a metric: keep them. */
export const REFUSALS = [
  'peer', // connection from another zone
  'uid', // connection of a user who is neither root nor a reader
  'connections', // too many connections of the zone
  'line', // a line longer than the limit
  'broken-frame', // a V2 line that is no valid frame
  'bad-line', // answered FAILURE or `invalid command`, a bare reset excepted
  'queue', // so many requests wait that a connection is not read, or that a port's are dropped
  'unsent', // a reply that waits until the zone's peers have read others
  'idle', // a connection closed for silence
  'unread', // a peer that does not read its replies
  'rate', // over a rate limit
  'dropped-reply', // the client reset the line before its reply was sent
  ...CHANGE_LIMITS, // a change that waited for a limit or was refused by it
] as const;
export type Refusal = (typeof REFUSALS)[number];

/** What a peer may do, or why it is refused. */
export type Access = 'all' | 'read' | Extract<Refusal, 'peer' | 'uid'>;

/** The events of a link, which become log records and metrics. */
export interface LinkObserver {
  /** A connection was accepted (zone socket) or made (serial). */
  opened(): void;
  closed(): void;
  received(bytes: number): void;
  sent(bytes: number): void;
  /**
   * A request was answered, or a write was executed whose client did not wait. `elapsedMs` runs from its last byte to its
   * reply.
   */
  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void;
  refused(reason: Refusal, detail: Readonly<Record<string, unknown>>): void;
}

/** A link as its zone sees it. */
export interface Link {
  /** For status: `listening`, `connecting`, `connected` ... */
  readonly state: string;
  /** The host path of the socket it listens on or connects to. */
  readonly path: string;
  readonly connections: number;
  /**
   * Ends it: no new requests, those that were read are answered within `graceMs`, then all is closed.
   * Idempotent; resolves when every descriptor is closed. Never rejects.
   */
  stop(graceMs: number): Promise<void>;
}

/** What a connection may always hold: enough for any request but a big PUT. */
export const SMALL_BYTES = 16 * 1024;
/** Zones that may hold at once what their limits allow. */
export const ZONES_AT_LIMIT = 8;

export interface LinkLimits {
  /** Longest request line, bytes: carries a PUT value of about 1.1 MiB. */
  readonly lineBytes: number;
  /**
   * Replies that are being built for one zone or that its peers have not read, bytes. A larger one is built when there is
   * no other; above it a zone gets only small ones.
   */
  readonly replyBytes: number;
  /** Requests waiting for their reply on one connection; reading pauses above it. */
  readonly queuedRequests: number;
  /** Open connections of one zone. */
  readonly connections: number;
  /** A zone socket's connection without a byte either way for this long is closed, ms. */
  readonly idleMs: number;
}

export const DEFAULT_LINK_LIMITS: LinkLimits = {
  lineBytes: 2 * 1024 * 1024,
  replyBytes: 4 * 1024 * 1024,
  queuedRequests: 16,
  connections: 64,
  idleMs: 10 * 60 * 1000,
};

/** What one zone's connections can make us hold, bytes. */
export function zoneBytes(
  limits: Pick<LinkLimits, 'lineBytes' | 'replyBytes' | 'connections'>,
): number {
  return 3 * limits.lineBytes + limits.replyBytes + limits.connections * 6 * SMALL_BYTES;
}
