/*
 * How much one zone may take. Every number is configurable (section `limits`); these are the defaults.
 *
 * What a zone can make us hold, at worst, with `c` connections open:
 *
 *   requests   c x 2 x SMALL_BYTES + one read of the kernel's buffer each, and the lines of one connection
 *              at a time that hold more than that: 3 x lineBytes (share.ts)
 *   replies    unsentBytes, the one reply that went over it, and c x SMALL_BYTES
 *   waiting    c x queuedRequests small requests
 *
 * With the defaults that is about 24 MiB for a zone that tries, and some KiB for one that does not.
 */

/** What a connection may always hold: enough for any request but a big PUT. */
export const SMALL_BYTES = 16 * 1024;

export interface LinkLimits {
  /** Longest request line, bytes: carries a PUT value of about 1.1 MiB. */
  readonly lineBytes: number;
  /**
   * Replies not yet taken by the peers of one zone, bytes. Above it a zone gets only small replies. A
   * connection gets no further reply at all while the kernel has not taken the one before.
   */
  readonly unsentBytes: number;
  /** Requests waiting for their answer on one connection; reading pauses above it. */
  readonly queuedRequests: number;
  /** Open connections of one zone. */
  readonly connections: number;
  /** A zone socket's connection without a byte either way for this long is closed, ms. */
  readonly idleMs: number;
}

export const DEFAULT_LINK_LIMITS: LinkLimits = {
  lineBytes: 2 * 1024 * 1024,
  unsentBytes: 4 * 1024 * 1024,
  queuedRequests: 16,
  connections: 64,
  idleMs: 10 * 60 * 1000,
};
