/* Connections of one hostile guest: opened as fast as it likes, written to as fast as the agent takes it. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** How long one that is not read is waited for, before its end is looked at. */
const DRAIN_MS = 50;
const LF = 0x0a;

export type IsOver = () => boolean;

export class Attackers {
  private readonly path: string;
  private readonly sockets: Socket[] = [];

  /** @param path the zone's socket */
  constructor(path: string) {
    this.path = path;
  }

  async dial(): Promise<Socket> {
    const socket = connect(this.path);
    socket.on('error', () => undefined);
    this.sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  dialMany(count: number): Promise<Socket[]> {
    return Promise.all(Array.from({ length: count }, () => this.dial()));
  }

  hangUp(): void {
    this.sockets.splice(0).forEach((socket) => socket.destroy());
  }

  /** Writes as fast as the other side takes it. */
  async pour(socket: Socket, bytes: () => Buffer, isOver: IsOver): Promise<void> {
    while (!isOver() && !socket.destroyed) {
      if (!socket.write(bytes())) {
        // Some never drain.
        const signal = AbortSignal.timeout(DRAIN_MS);
        await once(socket, 'drain', { signal }).catch(() => undefined);
      } else {
        await delay(0);
      }
    }
  }

  /** Asks again and again for one reply, and reads it as fast as it comes. */
  async read(socket: Socket, ask: Buffer, isOver: IsOver): Promise<void> {
    while (!isOver()) {
      socket.write(ask);
      for (let last = 0; last !== LF;) {
        const [chunk] = (await once(socket, 'data')) as [Buffer];
        last = chunk.at(-1) ?? 0;
      }
    }
  }

  /** Writes some bytes again and again, one at a time. */
  async trickle(socket: Socket, bytes: Buffer, isOver: IsOver): Promise<void> {
    for (let at = 0; !isOver() && !socket.destroyed; at = (at + 1) % bytes.length) {
      socket.write(bytes.subarray(at, at + 1));
      await delay(1);
    }
  }

  /** Keeps so many connections in use: in the place of those that the agent closes, others. */
  async each(count: number, use: (socket: Socket) => Promise<void>, isOver: IsOver): Promise<void> {
    const again = async (): Promise<void> => {
      while (!isOver()) {
        // Where the queue of new connections is full there is none.
        const socket = await this.dial().catch(() => null);
        await (socket === null ? delay(1) : use(socket));
      }
    };
    await Promise.all(Array.from({ length: count }, again));
  }

  /** Connects without a word, over and over. @param count connections at a time */
  async storm(count: number, isOver: IsOver): Promise<void> {
    while (!isOver()) {
      const sockets = Array.from({ length: count }, () => connect(this.path));
      sockets.forEach((socket) => socket.on('error', () => undefined));
      await delay(5);
      sockets.forEach((socket) => socket.destroy());
    }
  }
}
