/*
 * What every link has in common: the path a zone's requests come in by, whatever carries it.
 *
 * A link is made by its zone and ended by it. It knows bytes, connections and limits; what a request
 * means it leaves to the `handle` it was given. Two exist: zone-socket (OS brands, we listen) and
 * serial (HVM brands, we connect to the hypervisor's port).
 */
import type { Request } from '../protocol/request';
import type { DataRequest } from '../protocol/request';
import type { ChangeLimit, Reply } from '../protocol/reply';

/** The process at the other end of a connection, as getpeerucred tells. */
export interface Peer {
  readonly zoneid: number;
  readonly pid: number;
  readonly uid: number;
}

/** Where a request came from. `peer` is null on a serial port: the hypervisor stands between. */
export interface Origin {
  readonly zonename: string;
  readonly peer: Peer | null;
  /** The peer is a reader: it may ask, but change nothing. */
  readonly readOnly?: boolean;
}

/** What a peer may do. */
export type Access = 'all' | 'read' | 'none';

/**
 * Answers a request that needs the VM's data. Never throws; a promise never rejects and settles
 * within 30 s. A reply that can be given at once is returned at once, not as a promise.
 */
export type Handle = (origin: Origin, request: DataRequest) => Reply | Promise<Reply>;

/** Why a link turned something away, or dropped it. Names are label values of a metric: keep them. */
export type Refusal =
  | ChangeLimit // a change that waited for a limit or was refused by it
  | 'peer' // connection from another zone
  | 'uid' // connection of a user who is neither root nor a reader
  | 'connections' // too many connections of the zone
  | 'line' // a line longer than the limit
  | 'broken-frame' // a V2 line that is no valid frame
  | 'bad-line' // answered FAILURE or `invalid command`, a bare reset excepted
  | 'queue' // so many requests wait that a connection is not read, or that a port's are dropped
  | 'unsent' // a reply that waits until the zone's peers have read others
  | 'idle' // a connection closed for silence
  | 'unread' // a peer that does not read its replies
  | 'rate' // slowed down for its share
  | 'dropped-reply'; // the asker reset the line before its answer was there

/** What a link tells of itself. Whoever makes the link turns these into records and metrics. */
export interface LinkObserver {
  /** A connection was accepted (zone socket) or made (serial). */
  opened(): void;
  closed(): void;
  received(bytes: number): void;
  sent(bytes: number): void;
  /**
   * A request was answered, or a write was carried out whose asker did not wait. `elapsedMs` runs from
   * its last byte to the write of its reply, or to its being there.
   */
  answered(origin: Origin, request: Request, reply: Reply | null, elapsedMs: number): void;
  refused(reason: Refusal, detail: Readonly<Record<string, unknown>>): void;
}

/**
 * What a serial link tells besides: how its guest's port comes and goes. Times are ms, on one clock.
 * A connection that another's port ended at once is told as `heldByAnother` only.
 */
export interface PortObserver {
  /**
   * The first connection since the zone runs.
   * @param afterMs since the zone runs, or since we know it where its boot was not seen
   */
  connected(afterMs: number, bootSeen: boolean): void;
  /** @param awayMs how long the guest had nobody to talk to */
  reconnected(awayMs: number): void;
  disconnected(lastedMs: number): void;
  /** The first request since the zone runs has its answer; a bare reset is none. */
  firstAnswered(afterMs: number, bootSeen: boolean): void;
  heldByAnother(): void;
  /** Bytes that were no request: noise, lines that a client left, floods. */
  dropped(bytes: number): void;
  /** The link ended; nothing comes after this. */
  ended(): void;
}

/** A link as its zone sees it. */
export interface Link {
  /** For status: `listening`, `connecting`, `connected`, `down` ... */
  readonly state: string;
  /** The host path of the socket it listens on or connects to. */
  readonly path: string;
  readonly connections: number;
  /**
   * Ends it: no new work, requests already asked are answered within `graceMs`, then all is closed.
   * Idempotent; resolves when every descriptor is closed. Never rejects.
   */
  stop(graceMs: number): Promise<void>;
}
