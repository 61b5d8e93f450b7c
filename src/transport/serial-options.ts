/* What a serial link is made with. */
import type { LinkLimits } from './limits';
import type { Handle, LinkObserver, PortObserver } from './link';
import type { ThrottledLogSink } from '../lib/throttled-log';
import type { Scheduler } from '../lib/scheduler';
import type { DialLimiter } from './dial-limiter';

/** What the VM's data says of the port. */
export interface PortFacts {
  /** The VM's `com2`, whatever it is. */
  readonly com2: unknown;
}

export interface SerialOptions {
  readonly zonename: string;
  /** Host path of the zone's root. */
  readonly zoneroot: string;
  /** Settles when the VM's data is loaded, or with undefined to be asked again. Never rejects. */
  readonly facts: () => Promise<PortFacts | undefined>;
  readonly handle: Handle;
  readonly observer: LinkObserver;
  readonly portObserver: PortObserver;
  /** The zone runs already when the agent first sees it: times count from then. */
  readonly ranBefore: boolean;
  readonly limits: LinkLimits;
  /** One for the whole process. */
  readonly turns: Scheduler;
  /** One for the whole process: the tries of all links go through it. */
  readonly turnstile: DialLimiter;
  readonly log: ThrottledLogSink;
  readonly now?: () => number;
}
