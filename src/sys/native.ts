/*
 * The door to the addon: zone state changes as libzonecfg tells them. No one else loads a `.node` file.
 */

/** A state change as the platform publishes it. State names are the kernel's. */
export interface RawZoneEvent {
  readonly zonename: string;
  readonly zoneid: number;
  /** Empty for a deletion. */
  readonly newstate: string;
  /** Empty for a creation. */
  readonly oldstate: string;
  /** Nanoseconds since 1970. */
  readonly when: bigint;
}

/** One subscription. All of its methods may be called at any time; after `close` they reject. */
export interface ZoneSubscription {
  /** Holds events back: until `exitCritical` says false, the listing replaces them. */
  enterCritical(): Promise<void>;
  /** True: an event came in meanwhile, list again and call this again; the section is still held. */
  exitCritical(): Promise<boolean>;
  abortCritical(): Promise<void>;
  /** No event is delivered after it was called. Idempotent. */
  close(): Promise<void>;
}
