/*
 * The health of vminfod, for an operator: the state of its event stream, whether it answers when asked, and whether
 * what it says of a VM can be.
 *
 * An open stream says little: vminfod has no heartbeat, and can be wedged for hours behind an open connection. So it
 * is also asked something (GET /ping), for a second at most.
 */
import { messageOf } from '../lib/errors';
import type { StoreStatus } from '../vm/store';
import { getText } from '../vm/vminfod-client';
import type { Zone } from '../zones/zone';
import { counted, inWords } from './format';
import { platformState, type PlatformStates } from './node';

const PING_MS = 1000;

export type VminfodHealth = ReturnType<typeof healthOf>;

/** Asks vminfod whether it answers. Never rejects. @returns the time it took, ms, or why there was no answer */
export async function pingVminfod(url: string): Promise<number | string> {
  const began = performance.now();
  try {
    await getText(url, '/ping', AbortSignal.timeout(PING_MS));
    return Math.round((performance.now() - began) * 10) / 10;
  } catch (err) {
    const isLate = performance.now() - began >= PING_MS;
    return isLate ? `no answer within ${inWords(PING_MS)}` : messageOf(err);
  }
}

/** @param answer ms, or why there was none; @param now ms since 1970 */
export function healthOf(status: StoreStatus, answer: number | string, now: number) {
  const { vminfod, vms, unconfirmed } = status;
  const { state, since, outageSince, lastError } = vminfod;
  const known = `; serving what was last known of ${counted(vms, 'VM')}, and its config files as they are`;
  /** Null when all is well. */
  let reason: 'vminfod-down' | 'vminfod-wedged' | null = null;
  let summary = `following for ${inWords(now - since)}, ${counted(vms, 'VM')}`;
  let details: string;
  if (state !== 'following') {
    reason = 'vminfod-down';
    summary =
      outageSince === null
        ? `is not there yet, for ${inWords(now - since)}`
        : `has been down for ${inWords(now - outageSince)}`;
    details = (outageSince === null ? '' : known) + (lastError === null ? '' : ` (${lastError})`);
  } else if (typeof answer === 'string') {
    reason = 'vminfod-wedged';
    summary = `is wedged: its stream is open, but it does not answer (${answer})`;
    details = known;
  } else {
    details = `, answers in ${answer} ms`;
    if (unconfirmed > 0) {
      // Long past, maybe: a VM that it does not show now is a problem of that zone (health.ts).
      details += `; ${counted(unconfirmed, 'write')} not confirmed since the start`;
    }
  }
  const verdict: 'ok' | 'fail' = reason === null ? 'ok' : 'fail';
  return {
    ...vminfod,
    /** VM objects that are known. */
    vms,
    /** How long its answer took, null when there was none. */
    answeredMs: typeof answer === 'number' ? answer : null,
    /** Writes that it did not confirm since the start. */
    unconfirmed,
    verdict,
    reason,
    /** What is wrong, or how well it is, in short; `words` says everything. */
    summary,
    words: summary + details,
    /** What to do; empty when all is well. */
    remedy: reason === null ? '' : 'svcs -xv vminfod; svcadm restart vminfod',
  };
}

/**
 * How a VM object differs from what the platform says, as a clause; null where it does not. vminfod takes the zone's id
 * from `zoneadm list` anew at each event of the zone, and has null for one that does not run (smartos-live,
 * vmload-zoneadm.js and vminfod/vminfod.js, handleZoneEvent): it shows a boot that was missed.
 */
export function whyBehind(
  vm: { readonly zoneState?: string | undefined; readonly zoneid?: number | undefined },
  zone: Pick<Zone, 'zonename' | 'state'>,
  states: PlatformStates,
): string | null {
  const { zoneState, zoneid } = vm;
  if (zoneState !== undefined && (zoneState === 'running') !== (zone.state === 'running')) {
    return `it says ${zoneState}, the platform says ${platformState(zone, states)}`;
  }
  const live = states.get(zone.zonename)?.zoneid;
  return zoneid === undefined || live === undefined || zoneid === live
    ? null
    : `it missed a reboot (it says zone id ${zoneid}, the platform says ${live})`;
}
