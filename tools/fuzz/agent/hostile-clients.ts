/* Clients of the attacked zones: many connections that write anything and close at any time. */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Step } from './step';

type BytesStep = Extract<Step, { kind: 'bytes' }>;

/** Then the first who came goes. */
const MOST = 300;
/** So many pieces of the bytes at most are written. */
const MOST_CHUNKS = 4096;

export class HostileClients {
  private readonly sockets = new Set<Socket>();
  private count = 0;

  open(path: string): Socket {
    const socket = connect(path);
    // Refused, or thrown out: that is a client's life.
    socket.on('error', () => undefined);
    socket.once('close', () => this.sockets.delete(socket));
    // Half of them read the replies.
    if (this.count++ % 2 === 0) {
      socket.resume();
    }
    this.sockets.add(socket);
    if (this.sockets.size > MOST) {
      const [first] = this.sockets;
      first?.destroy();
    }
    return socket;
  }

  async write(path: string, step: BytesStep): Promise<void> {
    const socket = this.open(path);
    const bytes = Buffer.from(step.octets.repeat(step.times), 'latin1');
    const most = Math.min(bytes.length, step.chunk * MOST_CHUNKS);
    for (let at = 0; at < most; at += step.chunk) {
      socket.write(bytes.subarray(at, at + step.chunk));
    }
    // So that some of it is read before the end comes.
    await delay(2);
    if (step.end === 'finish') {
      socket.end();
    } else if (step.end === 'destroy') {
      socket.destroy();
    }
  }

  leave(): void {
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }
}
