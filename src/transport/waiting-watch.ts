/*
 * The WATCH of one connection that waits for a change: its token is still the client's.
 *
 *   handled --token is the same, nothing is asked behind it--> waiting --woken: a change, its time, the next request-->
 *   handled again: answered, or it waits on
 *
 * Used by the connection's reply queue, of which it is the head. `Watches` says when the zone's data may have changed.
 */
import type { DataVersion } from '../lib/data-version';
import type { Reply } from '../protocol/reply';
import type { DataRequest } from '../protocol/request';
import type { ParkedWatch, Watches } from './watches';

/** Memory of a WATCH besides its keys, its entries in `Watches` included, bytes. */
export const WAITING_BYTES = 768;

/** Whether a reply says what the client of a WATCH knows already. */
export function isUnchanged(request: DataRequest, reply: Reply): boolean {
  return request.kind === 'watch' && reply.kind === 'success' && reply.text === request.token;
}

export class WaitingWatch {
  /** On the connection's clock, ms: then it is answered as it is. */
  readonly until: number;
  private readonly watches: Watches;
  private readonly parked: ParkedWatch;
  private isWoken = false;

  /**
   * @param seen the version of the zone's data before its token was computed
   * @param onWoken runs when `Watches` wakes it, at most once
   */
  constructor(
    watches: Watches,
    zonename: string,
    { seen, until }: { readonly seen: DataVersion; readonly until: number },
    onWoken: () => void,
  ) {
    const wake = (): void => {
      this.wake();
      onWoken();
    };
    this.watches = watches;
    this.until = until;
    this.parked = watches.park(zonename, { wake }, seen, until);
  }

  /** True: it is to be handled again. */
  get woken(): boolean {
    return this.isWoken;
  }

  wake(): void {
    this.isWoken = true;
  }

  /** It does not wait any more. Idempotent. */
  stop(): void {
    this.watches.unpark(this.parked);
  }
}
