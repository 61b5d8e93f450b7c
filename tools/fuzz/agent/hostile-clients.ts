/* Clients of the attacked zones: many connections that write anything and close at any time. */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { frameIn, frameOf, fromBase64, toBase64 } from '../model/wire';
import type { Step } from './step';

type BytesStep = Extract<Step, { kind: 'bytes' }>;
type WatchStep = Extract<Step, { kind: 'watch' }>;

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
    const bytes = Buffer.from(step.bytes.repeat(step.times), 'latin1');
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

  /** Each connection waits for a change, once it has a token, and ends its wait as the step says. */
  watch(path: string, { count, end }: WatchStep): void {
    for (let n = 0; n < count; n++) {
      const socket = this.open(path);
      const keys = n % 2 === 0 ? '' : ` ${toBase64('motd')}`;
      const waitWith = (token: string): string => {
        return `${frameOf(`0000000a WATCH ${toBase64(`300 ${token}${keys}`)}`)}\n`;
      };
      socket.once('data', (chunk: Buffer) => {
        const [line = ''] = chunk.toString('latin1').split('\n');
        socket.write(waitWith(fromBase64(frameIn(line)?.payload ?? '') ?? '-'), 'latin1');
        if (end === 'destroy') {
          socket.destroy();
        } else if (end !== 'leave') {
          socket.write(end === 'ask' ? `${frameOf('0000000b KEYS')}\n` : '\nNEGOTIATE V2\n');
        }
      });
      socket.write(waitWith('-'), 'latin1');
    }
  }

  leave(): void {
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }
}
