/*
 * How vminfod is, in words for an operator: what its stream does, and whether it answers when asked.
 *
 * A stream that is open says little: vminfod has no heartbeat, and can be wedged for hours behind an
 * open connection. So it is also asked something (GET /ping). One question at a time, however many look
 * at the status, and never longer than a second.
 */
import { messageOf } from '../lib/errors';
import type { StoreStatus } from '../vm/store';
import type { VminfodStatus } from '../vm/vminfod-client';
import { getText } from '../vm/vminfod-http';
import { counted, inWords } from './format';

const PING_MS = 1000;

export type VminfodVerdict = 'ok' | 'warn' | 'fail';

export interface VminfodHealth extends VminfodStatus {
  readonly verdict: VminfodVerdict;
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
  private readonly url: string;
  private asking: Promise<number | string> | null = null;

  constructor(url: string) {
    this.url = url;
  }

  /** Never rejects; takes a second at most. */
  async look(status: StoreStatus): Promise<VminfodHealth> {
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
  const restart =
    'svcs -xv vminfod tells why; svcadm restart vminfod, or svcadm clear if it is in maintenance';
  if (vminfod.state !== 'following') {
    const { outageSince, since, lastError } = vminfod;
    const last = lastError === null ? '' : ` (${lastError})`;
    const words =
      outageSince === null
        ? `not there yet, for ${inWords(now - since)}${last}`
        : `has been down for ${inWords(now - outageSince)}; ${known}${last}`;
    return { ...facts, verdict: 'fail', words, remedy: restart };
  }
  const following = `following for ${inWords(now - vminfod.since)}, ${counted(vms, 'VM')}`;
  if (typeof answer === 'string') {
    const words = `is wedged: its stream is open, but it does not answer (${answer}); ${known}`;
    return { ...facts, verdict: 'fail', words, remedy: restart };
  }
  if (unconfirmed > 0) {
    const writes = counted(unconfirmed, 'write');
    const words = `${following}; it did not show ${writes} of guests within 2 s: it is slow, or lost its watch of a VM`;
    return {
      ...facts,
      verdict: 'warn',
      words,
      remedy: `mdatactl doctor says of which VM; ${restart}`,
    };
  }
  return { ...facts, verdict: 'ok', words: `${following}, answers in ${answer} ms`, remedy: '' };
}
