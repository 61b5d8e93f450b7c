/*
 * Zone state changes as libzonecfg gives them, through the addon (native/zone_events.h).
 *
 * libzonecfg calls the addon on a thread of its own and waits for it, and every zone operation of the node waits with
 * it. So the addon only queues, and hands over here, on the main thread.
 */
import { codeOf, SystemError, systemError } from '../lib/errors';
import { loadAddon, type OnZoneEvent, type Handle } from './addon';
import { onRoot } from './ffi';

/** Two changes for each of 4,096 zones while the main thread is busy: about 1.5 MiB. */
const MAX_QUEUED_EVENTS = 8192;

/** What all calls are on: the event channel of the kernel's zones. */
const CHANNEL = 'com.sun:zones:status';

/** Of EIO: libzonecfg gives no reason. The bound is EVCH_MAX_SUBSCRIPTIONS (uts/common/os/evchannels.c, evch_chsubscribe). */
const WHY_REFUSED =
  'not root in the global zone, or the channel has its 32 subscribers, which is all that a node may have: end programs that watch zone events and were left running';

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

export type ZoneSubscription = ReturnType<typeof bindZoneEvents>;

/**
 * Subscribes to the state changes of all zones of the node. An open subscription keeps the process alive; one that
 * nobody holds any more is closed by the collector. All of its methods may be called at any time; after `close` they
 * reject. Calls are executed one after the other, and an event that came after a section was left is delivered after
 * its promise resolved.
 *
 * @param onEvent called in the order of the events
 * @param onLost called where `count` events are missing; all zones must be listed again
 * @param options.root the node, where the process has more than one: else the last that was opened
 * @param options.maxQueued events that wait for the main thread, at most
 * @throws SystemError when libzonecfg refuses (not in the global zone, not permitted, no node there)
 */
export function bindZoneEvents(
  onEvent: (event: RawZoneEvent) => void,
  onLost: (count: number) => void,
  options: { readonly root?: string; readonly maxQueued?: number } = {},
) {
  const native = loadAddon();
  if (options.root !== undefined) {
    onRoot(options.root);
  }
  let handle: Handle;
  try {
    handle = native.bind(
      deliverTo(onEvent, onLost),
      options.maxQueued ?? MAX_QUEUED_EVENTS,
      setImmediate,
    );
  } catch (err) {
    const code = codeOf(err);
    const detail = code === 'EIO' ? WHY_REFUSED : '';
    throw new SystemError('zonecfg_notify_bind', CHANNEL, code, detail, err);
  }

  let closed: Promise<void> | null = null;
  return {
    /** Delays events: until `exitCritical` says false, the listing replaces them. */
    enterCritical: (): Promise<void> =>
      execute('zonecfg_notify_critical_enter', native.enter(handle)),
    /** True: an event came in meanwhile, list again and call this again; the section is still held. */
    exitCritical: async (): Promise<boolean> =>
      (await execute('zonecfg_notify_critical_exit', native.exit(handle))) === 1,
    abortCritical: (): Promise<void> =>
      execute('zonecfg_notify_critical_abort', native.abort(handle)),
    /** No event is delivered after it was called. Leaves the section. Idempotent. */
    close: (): Promise<void> => (closed ??= execute('zonecfg_notify_unbind', native.close(handle))),
  };
}

/** Apart, so that what the addon keeps for ever does not keep the handle: it could never be collected. */
function deliverTo(
  onEvent: (event: RawZoneEvent) => void,
  onLost: (count: number) => void,
): OnZoneEvent {
  return (lost, zonename, zoneid, newstate, oldstate, when) => {
    if (lost > 0) {
      onLost(lost);
    } else {
      onEvent({ zonename, zoneid, newstate, oldstate, when });
    }
  };
}

async function execute<T>(call: string, command: Promise<T>): Promise<T> {
  try {
    return await command;
  } catch (err) {
    throw systemError(call, CHANNEL, err);
  }
}
