/*
 * A connection to a zone's socket for whoever asks as a guest does: the doctor, compare and the mdata programs.
 * ClientSession does the talking; this sends, waits and closes.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { ClientSession, type Command, type Outcome, type Step } from '../protocol/client';

/** The channel is of no use any more. */
export type Reopen = Extract<Step, { readonly kind: 'reopen' }>;

export class GuestChannel {
  private readonly session = new ClientSession(() => randomBytes(4).toString('hex'));
  /** Takes what the session says to do next while something is asked. */
  private follow: (step: Step) => void = () => undefined;

  private constructor(private readonly socket: Socket) {
    const { session } = this;
    socket.on('data', (chunk: Buffer) => this.follow(session.receive(chunk)));
    socket.on('timeout', () => this.follow(session.lost('receive timeout')));
    socket.on('close', () => this.follow(session.lost('connection closed')));
    // It is closed then.
    socket.on('error', () => undefined);
  }

  /** Rejects with the error of connect, or as the signal says. */
  static async open(path: string, signal: AbortSignal): Promise<GuestChannel> {
    signal.throwIfAborted();
    const socket = connect({ path });
    try {
      await once(socket, 'connect', { signal });
      return new GuestChannel(socket);
    } catch (err) {
      socket.destroy();
      signal.throwIfAborted();
      throw err;
    }
  }

  /** Asks one thing after the other. Rejects as the signal says. */
  async ask(command: Command, signal: AbortSignal): Promise<Outcome | Reopen> {
    const { socket, session } = this;
    signal.throwIfAborted();
    const abort = (): void => this.follow(session.lost('connection closed'));
    const ended = await new Promise<Outcome | Reopen>((resolve) => {
      this.follow = (step) => {
        if (step.kind === 'send') {
          socket.setTimeout(step.waitMs);
          socket.write(step.bytes);
        } else if (step.kind !== 'wait') {
          resolve(step.kind === 'done' ? step.outcome : step);
        }
      };
      signal.addEventListener('abort', abort);
      this.follow(socket.destroyed ? session.lost('connection closed') : session.ask(command));
    });
    signal.removeEventListener('abort', abort);
    signal.throwIfAborted();
    return ended;
  }

  close(): void {
    this.socket.destroy();
  }
}
