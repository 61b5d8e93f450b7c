/*
 * How much one zone may take. Every number is configurable (section `limits`); these are the defaults.
 */

export interface LinkLimits {
  /** Longest request line, bytes: carries a PUT value of about 1.1 MiB. */
  readonly lineBytes: number;
  /** Replies not yet taken by the peer, bytes a connection; reading pauses above it. */
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
