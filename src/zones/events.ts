/*
 * Zone state changes as an object-mode stream, in the manner of sysevent-stream.
 *
 *   bind --> critical enter --> list --> critical exit --1--> list again
 *                                              |
 *                                              0
 *                                              v
 *                                     'ready' (the picture) --> ZoneEvent, ZoneEvent, ...
 *
 * The picture and the events after it leave no gap: while it is taken the platform delivers no event,
 * and a change in that time makes us list again (spec: illumos-abi). 'lost' says that events could
 * not be kept; whoever listens must look for itself. Usable alone: see tools/zone-events.
 */
import { Readable } from 'node:stream';
import type { Platform } from '../platform/libzonecfg';
import { bindZoneEvents, type RawZoneEvent, type ZoneSubscription } from '../platform/addon';
import { listZones, type ZoneSnapshot, type ZoneFacts } from './snapshot';

/** Listing again this often without a quiet moment means that something is wrong with the channel. */
const MOST_LISTINGS = 50;

export type ZoneEvent = {
  readonly zonename: string;
  readonly zoneid: number;
  /** Nanoseconds since 1970. */
  readonly when: bigint;
} & (
  | { readonly kind: 'created' }
  | { readonly kind: 'deleted' }
  /** State names are the kernel's: `ready`, `running`, `shutting_down` ... */
  | { readonly kind: 'changed'; readonly newstate: string; readonly oldstate: string }
);

export type Bind = (
  onEvent: (event: RawZoneEvent) => void,
  onLost: (count: number) => void,
) => ZoneSubscription;

/**
 * Emits 'ready' with the ZoneFacts of every zone, then 'data' with ZoneEvents; 'unreadable' with a zone
 * that libzonecfg cannot read, and why; 'lost'. `start` rejects when the platform refuses the
 * subscription or the listing.
 */
export class ZoneEvents extends Readable {
  private readonly platform: Platform;
  private readonly bind: Bind;
  private subscription: ZoneSubscription | null = null;
  private stopping: Promise<void> | null = null;

  constructor(platform: Platform, bind: Bind = bindZoneEvents) {
    super({ objectMode: true, highWaterMark: 1024 });
    this.platform = platform;
    this.bind = bind;
  }

  /** Subscribes and takes the first picture; the same facts go out as 'ready'. */
  async start(): Promise<readonly ZoneFacts[]> {
    const subscription = this.bind(
      (event) => {
        if (this.stopping === null) {
          this.push(parseEvent(event));
        }
      },
      (count) => this.emit('lost', count),
    );
    this.subscription = subscription;
    const facts = await this.firstPicture(subscription);
    this.emit('ready', facts);
    return facts;
  }

  /** Ends the subscription and the stream. Idempotent. */
  stop(): Promise<void> {
    this.stopping ??= (async () => {
      await this.subscription?.close();
      this.push(null);
    })();
    return this.stopping;
  }

  override _read(): void {
    // Events come when they come; what nobody reads yet waits in the stream's own queue.
  }

  private async firstPicture(subscription: ZoneSubscription): Promise<readonly ZoneFacts[]> {
    await subscription.enterCritical();
    try {
      for (let listing = 0; listing < MOST_LISTINGS; listing++) {
        const picture = await listZones(this.platform);
        if (!(await subscription.exitCritical())) {
          return this.told(picture);
        }
      }
    } catch (err) {
      await subscription.abortCritical();
      throw err;
    }
    // A node that changes faster than it can be listed: the events from here on tell the rest.
    await subscription.abortCritical();
    this.emit('lost', 0);
    return this.told(await listZones(this.platform));
  }

  /** A zone that cannot be read is no reason to go without all the others. */
  private told({ zones, unreadable }: ZoneSnapshot): readonly ZoneFacts[] {
    for (const [zonename, err] of unreadable) {
      this.emit('unreadable', zonename, err);
    }
    return zones;
  }
}

function parseEvent(raw: RawZoneEvent): ZoneEvent {
  const { zonename, zoneid, when, newstate, oldstate } = raw;
  if (newstate === '') {
    return { kind: 'deleted', zonename, zoneid, when };
  }
  if (oldstate === '' && newstate === 'configured') {
    return { kind: 'created', zonename, zoneid, when };
  }
  return { kind: 'changed', zonename, zoneid, when, newstate, oldstate };
}
