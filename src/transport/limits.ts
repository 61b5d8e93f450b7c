/*
 * How much one zone may take, and all of them together. Every number is configurable (section `limits`);
 * these are the defaults.
 *
 * What a zone can make us hold, at worst, with `c` connections open (`zoneBytes`):
 *
 *   requests   c x 5 x SMALL_BYTES: one read of the kernel's buffer and one unfinished line each; and one
 *              connection at a time that has more than that, 3 x lineBytes while its line is decoded
 *   replies    unsentBytes, or the one reply that is larger; and c x SMALL_BYTES of small ones
 *
 * With the defaults that is 16 MiB for a zone that tries, and some KiB for one that does not. All zones
 * together get what ZONES_AT_LIMIT of them may take (zone-quota.ts).
 */

/** What a connection may always hold: enough for any request but a big PUT. */
export const SMALL_BYTES = 16 * 1024;
/** Zones that may do at once what their limits allow. */
export const ZONES_AT_LIMIT = 8;

export interface LinkLimits {
  /** Longest request line, bytes: carries a PUT value of about 1.1 MiB. */
  readonly lineBytes: number;
  /**
   * Replies that are being made for one zone or that its peers have not read, bytes. A larger one is made
   * when there is no other; above it a zone gets only small ones. A connection gets no further reply at
   * all while the kernel has not taken the one before.
   */
  readonly unsentBytes: number;
  /** Requests waiting for their reply on one connection; reading pauses above it. */
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

/** What one zone's connections can make us hold, bytes. */
export function zoneBytes(
  limits: Pick<LinkLimits, 'lineBytes' | 'unsentBytes' | 'connections'>,
): number {
  return 3 * limits.lineBytes + limits.unsentBytes + limits.connections * 6 * SMALL_BYTES;
}
