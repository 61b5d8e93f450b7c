/*
 * The guests of one zone of a simulated node, many at a time, and what a test asserts of their answers.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { eventually } from './eventually';
import { connectTo, type Answer, type GuestSession } from './guest-session';
import type { SimulatedNode } from './simulated-node';

/** Guests of one zone; `close` ends all their sessions. */
export class ZoneGuests {
  readonly index: number;
  private readonly cn: SimulatedNode;
  private readonly sockets: Socket[] = [];

  constructor(cn: SimulatedNode, index: number) {
    this.cn = cn;
    this.index = index;
  }

  /** How many keys its metadata has that its guest can write. */
  get keys(): number {
    const { customer, internal } = this.cn.metadata(this.index);
    const passwords = Object.keys(internal).filter((key) => key.endsWith('_pw'));
    return Object.keys(customer).length + passwords.length;
  }

  async open(): Promise<GuestSession> {
    const session = await this.cn.open(this.index);
    this.sockets.push(session.socket);
    return session;
  }

  openMany(count: number): Promise<GuestSession[]> {
    return Promise.all(Array.from({ length: count }, () => this.open()));
  }

  /** Resolves when the agent has hung up on a connection that says nothing. */
  async outlastSilent(): Promise<void> {
    const socket = await connectTo(this.cn.socket(this.index));
    socket.on('error', () => undefined);
    socket.resume();
    await once(socket, 'close');
    assert.strictEqual(socket.bytesRead, 0);
  }

  /** Another holds the lock of the VM's configuration, until `unlock`. */
  lock(): Promise<void> {
    return this.cn.fault('lock.held', this.index);
  }

  /** Ends this and all other faults of the node. */
  unlock(): Promise<void> {
    return this.cn.clearFaults();
  }

  close(): void {
    this.sockets.forEach((socket) => socket.destroy());
  }
}

/** Asserts that an answer is FAILURE, in these words. */
export function failed({ code, text }: Answer, words: string): void {
  assert.deepStrictEqual([code, text], ['FAILURE', words]);
}

/** Asserts that answers are SUCCESS. */
export function succeeded(...answers: readonly Answer[]): void {
  const others = answers.filter(({ code }) => code !== 'SUCCESS');
  assert.deepStrictEqual(others, []);
}

/** The first answers that come, at least so many of them, while others still wait. */
export async function firstOf(
  answers: readonly Promise<Answer>[],
  count: number,
): Promise<Answer[]> {
  const settled: Answer[] = [];
  answers.forEach((answer) => {
    answer.then(
      (value) => settled.push(value),
      () => undefined,
    );
  });
  await eventually(() => settled.length >= count, `${count} answers`);
  return [...settled];
}
