/*
 * A program in a simulated HVM guest that has opened its second serial port, as simcn gives it to tests:
 * what it writes is lost while nobody has the port, so it says everything again until it is answered.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Peer } from './peer';
import type { SimNode } from './simcn';

const RESET_ANSWER = 'invalid command\n';
const REPEAT_MS = 50;

export class GuestTty {
  readonly peer: Peer;
  /** Resets that are not answered: by nobody, or later than the next one was sent. */
  private unanswered = 0;

  private constructor(peer: Peer) {
    this.peer = peer;
  }

  /** Opens the port of this VM: what was unread in it is lost. */
  static async open(node: SimNode, uuid: string): Promise<GuestTty> {
    return new GuestTty(await Peer.at(node.path(`/zones/${uuid}/ttyb`)));
  }

  /** Resets the line as clients do. Rejects when nobody answered within `ms`. */
  async reset(ms: number): Promise<void> {
    const end = performance.now() + ms;
    for (;;) {
      const from = this.peer.receivedBytes;
      this.peer.write('\n');
      this.unanswered++;
      for (let waited = 0; waited < REPEAT_MS; waited += 5) {
        if (this.peer.text.slice(from).endsWith(RESET_ANSWER)) {
          this.unanswered--;
          return;
        }
        await delay(5);
      }
      if (performance.now() > end) {
        throw new Error(`nobody answered the guest within ${ms} ms`);
      }
    }
  }

  /**
   * Asks in V1 for a key of which the value is expected.
   * @returns the whole answer, without those to earlier resets that come before it
   */
  async get(key: string, expected: string): Promise<string> {
    const from = this.peer.receivedBytes;
    const length = `SUCCESS\n${expected}\n.\n`.length;
    let answer = await this.peer.ask(`GET ${key}\n`, length);
    while (this.unanswered > 0 && answer.startsWith(RESET_ANSWER)) {
      this.unanswered--;
      const before = from + this.peer.text.slice(from).length - answer.length + RESET_ANSWER.length;
      answer = (await this.peer.least(before + length)).slice(before);
    }
    return answer;
  }

  close(): void {
    this.peer.socket.destroy();
  }
}
