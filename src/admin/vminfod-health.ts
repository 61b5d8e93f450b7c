/*
 * The health of vminfod, for an operator: the state of its event stream, and whether it answers when asked.
 *
 * An open stream says little: vminfod has no heartbeat, and can be wedged for hours behind an open connection. So it
 * is also asked something (GET /ping): one question at a time, however many clients ask for the status, and never
 * longer than a second.
 */
import { messageOf } from '../lib/errors';
import type { StoreStatus } from '../vm/store';
import { getText, type VminfodStatus } from '../vm/vminfod-client';
import { counted, inWords } from './format';

const PING_MS = 1000;

export type VminfodVerdict = 'ok' | 'fail';

export interface VminfodHealth extends VminfodStatus {
  readonly verdict: VminfodVerdict;
  /** Null when all is well. */
  readonly reason: 'vminfod-down' | 'vminfod-wedged' | null;
  /** What is wrong, or how well it is, in short; `words` says everything. */
  readonly summary: string;
  readonly words: string;
  /** What to do; empty when all is well. */
  readonly remedy: string;
  /** VM objects that are known. */
  readonly vms: number;
  /** How long its answer took, null when there was none. */
  readonly answeredMs: number | null;
  /** Writes that it did not confirm since the start. */
  readonly unconfirmed: number;
}

/** Asks vminfod whether it answers, one question at a time. Holds nothing while nobody asks. */
export class VminfodProbe {
  private asking: Promise<number | string> | null = null;

  constructor(private readonly url: string) {}

  /** Never rejects; takes a second at most. */
  async check(status: StoreStatus): Promise<VminfodHealth> {
    this.asking ??= this.ping().finally(() => {
      this.asking = null;
    });
    return healthOf(status, await this.asking, Date.now());
  }

  /** @returns the time it took, ms, or why there was no answer */
  private async ping(): Promise<number | string> {
    const began = performance.now();
    try {
      await getText(this.url, '/ping', AbortSignal.timeout(PING_MS));
      return Math.round((performance.now() - began) * 10) / 10;
    } catch (err) {
      const waited = performance.now() - began;
      return waited >= PING_MS ? `no answer within ${inWords(PING_MS)}` : messageOf(err);
    }
  }
}

/** @param answer ms, or why there was none; @param now ms since 1970 */
export function healthOf(status: StoreStatus, answer: number | string, now: number): VminfodHealth {
  const { vminfod, vms, unconfirmed } = status;
  const answeredMs = typeof answer === 'number' ? answer : null;
  const facts = { ...vminfod, vms, answeredMs, unconfirmed };
  const known = `serving what was last known of ${counted(vms, 'VM')}, and its config files as they are`;
  const restart = 'svcs -xv vminfod; svcadm restart vminfod';
  if (vminfod.state !== 'following') {
    const { outageSince, since, lastError } = vminfod;
    const last = lastError === null ? '' : ` (${lastError})`;
    const summary =
      outageSince === null
        ? `is not there yet, for ${inWords(now - since)}`
        : `has been down for ${inWords(now - outageSince)}`;
    const words = `${summary}${outageSince === null ? '' : `; ${known}`}${last}`;
    return { ...facts, verdict: 'fail', reason: 'vminfod-down', summary, words, remedy: restart };
  }
  const following = `following for ${inWords(now - vminfod.since)}, ${counted(vms, 'VM')}`;
  if (typeof answer === 'string') {
    const summary = `is wedged: its stream is open, but it does not answer (${answer})`;
    const words = `${summary}; ${known}`;
    return { ...facts, verdict: 'fail', reason: 'vminfod-wedged', summary, words, remedy: restart };
  }
  // Long past, maybe: a VM that it does not show now is a problem of that zone (health.ts).
  const missed =
    unconfirmed === 0 ? '' : `; ${counted(unconfirmed, 'write')} not confirmed since the start`;
  const words = `${following}, answers in ${answer} ms${missed}`;
  return { ...facts, verdict: 'ok', reason: null, summary: following, words, remedy: '' };
}
