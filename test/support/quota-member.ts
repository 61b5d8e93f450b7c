/* A connection that holds what a test says, and its account. */
import {
  ConnectionAccount,
  type AccountOwner,
  type ZoneQuota,
} from '../../src/transport/zone-quota';

export const KIB = 1024;
export const LIMITS = { replyBytes: 100 * KIB, lineBytes: 100 * KIB };

export class Member implements AccountOwner {
  readonly requestBytes = 0;
  readonly running = false;
  readonly account: ConnectionAccount;
  rooms = 0;
  evicted = false;
  /** How long its peer has done nothing, ms. */
  stillMs = 0;
  /** Of replies. */
  private readonly unread = { buffered: 0, undelivered: 0 };

  constructor(readonly zone: ZoneQuota) {
    this.account = new ConnectionAccount(zone, this.unread, this, () => this.stillMs);
  }

  add(bytes: number): void {
    this.unread.buffered += bytes;
    this.unread.undelivered += bytes;
    this.account.update();
    this.account.recount();
  }

  proceed(): void {
    this.rooms++;
  }

  evict(): void {
    this.evicted = true;
    this.account.close();
  }
}
