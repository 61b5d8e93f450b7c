/* The other end of a connection: writes bytes, keeps what comes, and waits for it without sleeping. */
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';

export class Peer {
  readonly socket: Socket;
  private readonly chunks: Buffer[] = [];
  private bytes = 0;
  private ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.bytes += chunk.length;
      socket.emit('received');
    });
    socket.on('error', () => undefined);
    for (const event of ['end', 'close']) {
      socket.once(event, () => {
        this.ended = true;
        socket.emit('received');
      });
    }
  }

  static async at(path: string): Promise<Peer> {
    const socket = connect({ path, allowHalfOpen: true });
    const peer = new Peer(socket);
    await once(socket, 'connect');
    return peer;
  }

  get over(): boolean {
    return this.ended;
  }

  get receivedBytes(): number {
    return this.bytes;
  }

  /** All that came so far. */
  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1');
  }

  write(bytes: Buffer | string): void {
    this.socket.write(bytes);
  }

  /** Resolves with all that came when it is at least so long, or the other side ended. */
  async least(bytes: number, ms = 5000): Promise<string> {
    await this.until(() => this.bytes >= bytes || this.ended, ms);
    return this.text;
  }

  /** Resolves with all that came when the other side has ended. */
  async end(ms = 5000): Promise<string> {
    await this.until(() => this.ended, ms);
    return this.text;
  }

  /** Asks, and resolves with so many bytes of answer. */
  async ask(bytes: Buffer | string, answerBytes: number): Promise<string> {
    const before = this.bytes;
    this.write(bytes);
    await this.least(before + answerBytes);
    return this.text.slice(before);
  }

  private async until(condition: () => boolean, ms: number): Promise<void> {
    const signal = AbortSignal.timeout(ms);
    while (!condition()) {
      await once(this.socket, 'received', { signal }).catch((err: unknown) => {
        throw new Error(`nothing more came than ${JSON.stringify(this.text.slice(0, 200))}`, {
          cause: err,
        });
      });
    }
  }
}
