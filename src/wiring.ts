/*
 * Who hears of what. The parts of the agent know nothing of one another; what one of them tells is
 * carried to the others here.
 *
 *   VM data  changed           datasets: judge it anew, or forget it
 *                              zones: look at this one, where vminfod and we differ; its guest rebooted
 *   zones    arrived, moved    datasets: judge it anew; the log
 *            left              VM data: forget it
 *            event, repaired   figures
 *
 * Each listens from before the first word until the process ends; nothing here holds state or decides
 * more than whom a thing concerns.
 */
import type { LiveAudit } from './datasets/live-audit';
import type { NodeMetrics } from './metrics';
import type { Store } from './vm/store';
import type { VmChange } from './vm/vm-cache';
import type { Registry } from './zones/registry';
import { phaseOfState, type Zone } from './zones/zone';

/** Whom a change of VM data concerns. */
export interface VmHearers {
  readonly datasets: LiveAudit;
  /** Null until the zones' turn in the start has come. */
  readonly registry: () => Registry | null;
  /** Before, a difference is no news: the first picture is still being taken. */
  readonly started: () => boolean;
}

/** Carries what the store tells; before the store starts. */
export function wireStore(store: Store, { datasets, registry, started }: VmHearers): void {
  store.onChanged((change) => {
    const { zonename, next } = change;
    const zone = registry()?.get(zonename);
    if (zone !== undefined && guestRebooted(change)) {
      zone.guestRebooted();
    }
    // vminfod's word on a zone's state is a hint only: libzonecfg is asked.
    if (started() && differs(zone, next)) {
      void registry()?.hint(zonename);
    }
    if (next === undefined) {
      datasets.remove(zonename);
    } else {
      datasets.touch(zonename);
    }
  });
}

/** Whom the coming, moving and going of zones concerns. */
export interface ZoneHearers {
  readonly store: Store;
  readonly datasets: LiveAudit;
  readonly figures: NodeMetrics;
  readonly started: () => boolean;
}

/** Carries what the registry tells; before the registry starts. */
export function wireRegistry(
  registry: Registry,
  { store, datasets, figures, started }: ZoneHearers,
): void {
  registry.on('added', (zone) => {
    datasets.touch(zone.zonename);
    // Sockets of the first picture are told by "ready": thousands of records would slow the start.
    if (started() || zone.link.kind === 'port') {
      const { state, zonepath } = zone.facts;
      zone.log.info({ state, zonepath }, 'zone arrived');
    }
  });
  registry.on('moved', (zone) => datasets.touch(zone.zonename));
  registry.on('removed', (zone) => {
    zone.log.info({}, 'zone left');
    // Another zone of the same name may have come since.
    if (registry.get(zone.zonename) === undefined) {
      store.untrack(zone.zonename);
    }
  });
  registry.on('event', (event) => figures.zoneEvent(event.when));
  registry.on('repaired', (repair) => figures.repaired(repair));
}

/** Whether the guest's init was started again, which no zone event tells. */
function guestRebooted({ previous, next }: VmChange): boolean {
  const before = previous?.initRestarts;
  const after = next?.initRestarts;
  return before !== undefined && after !== undefined && before !== after;
}

/** Whether vminfod has another picture of a zone than we have. */
function differs(zone: Zone | undefined, next: VmChange['next']): boolean {
  if (zone === undefined || next === undefined) {
    return (zone === undefined) !== (next === undefined);
  }
  return zone.state !== phaseOfVmState(next.zoneState);
}

/** The phase that vminfod's zone_state means; halted where it says nothing. */
function phaseOfVmState(zoneState: string | undefined): ReturnType<typeof phaseOfState> {
  return zoneState === 'running' || zoneState === 'ready' ? phaseOfState(zoneState) : 'halted';
}
