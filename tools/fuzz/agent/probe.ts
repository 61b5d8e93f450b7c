/* Questions as a zone's own programs ask them, and as an operator does. */
import { connect, type Socket } from 'node:net';
import { request } from 'node:http';
import { frameIn, frameOf, fromBase64, toBase64 } from '../model/wire';
import { Broken, BOUNDS, within } from './bounds';

/** A serial line loses what arrives while the agent is down, so a client there repeats its request. */
const ASK_AGAIN_MS = 2000;
const SOCKET_ID = '0f0f0f0f';

/** GETs a key over a connection of its own. @returns its value; null: no right answer in time */
export function getBySocket(path: string, key: string, ms: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (value: string | null): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(value);
    };
    const timer = setTimeout(() => done(null), ms);
    let received = '';
    socket.on('error', () => done(null));
    socket.on('close', () => done(null));
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
      const end = received.indexOf('\n');
      if (end >= 0) {
        done(valueIn(received.slice(0, end), SOCKET_ID));
      }
    });
    socket.write(getRequest(SOCKET_ID, key), 'latin1');
  });
}

/**
 * Waits for a change of a key over one connection and makes it over another.
 * @throws Broken where the one who waits is not told
 */
export async function toldOfChange(path: string, change: number): Promise<void> {
  const key = toBase64('told');
  const [waiting, writing] = [new Client(path), new Client(path)];
  try {
    const token = await waiting.ask('WATCH', `300 - ${key}`);
    const told = waiting.ask('WATCH', `300 ${token} ${key}`);
    await writing.ask('PUT', `${key} ${toBase64(String(change))}`);
    if ((await told) === token) {
      throw new Broken('a WATCH was answered with the token of its client');
    }
  } finally {
    waiting.leave();
    writing.leave();
  }
}

/** A connection to a zone's socket that asks one thing at a time. */
class Client {
  private readonly socket: Socket;

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('error', () => undefined);
  }

  /** @returns what SUCCESS has @throws Broken where something else comes, or nothing in time */
  ask(code: string, payload: string): Promise<string> {
    const { socket } = this;
    const answer = new Promise<string>((resolve, reject) => {
      let received = '';
      const done = (): void => reject(new Broken(`a healthy zone closed at a ${code}`));
      socket.once('close', done);
      socket.on('data', function hear(chunk: Buffer) {
        received += chunk.toString('latin1');
        if (received.endsWith('\n')) {
          socket.off('data', hear).off('close', done);
          const value = valueIn(received.trimEnd(), SOCKET_ID);
          if (value === null) {
            reject(new Broken(`${code} in a healthy zone: ${received.slice(0, 80)}`));
          } else {
            resolve(value);
          }
        }
      });
    });
    socket.write(`${frameOf(`${SOCKET_ID} ${code} ${toBase64(payload)}`)}\n`, 'latin1');
    return within(answer, BOUNDS.answerMs, () => new Broken(`no answer to a ${code}`));
  }

  leave(): void {
    this.socket.destroy();
  }
}

/** A program in a guest that has the serial port open. */
export class Terminal {
  private socket: Socket | null = null;
  private asked = 0;
  private answered: (line: string) => void = () => undefined;

  /** @param path of the guest's end of the port */
  constructor(private readonly path: string) {}

  /** GETs a key. @returns its value; null: no right answer in time */
  get(key: string, ms: number): Promise<string | null> {
    return new Promise((resolve) => {
      let id = '';
      const ask = (): void => {
        id = (++this.asked).toString(16).padStart(8, '0');
        // The newline first, as clients do: it ends what somebody else has left on the line.
        this.open().write(`\n${getRequest(id, key)}`, 'latin1');
      };
      const done = (value: string | null): void => {
        clearTimeout(timer);
        clearInterval(again);
        this.answered = () => undefined;
        resolve(value);
      };
      const timer = setTimeout(() => done(null), ms);
      const again = setInterval(ask, ASK_AGAIN_MS);
      this.answered = (line) => {
        const value = valueIn(line, id);
        if (value !== null) {
          done(value);
        }
      };
      ask();
    });
  }

  leave(): void {
    this.socket?.destroy();
  }

  private open(): Socket {
    if (this.socket !== null) {
      return this.socket;
    }
    const socket = connect(this.path);
    this.socket = socket;
    let received = '';
    socket.on('error', () => undefined);
    socket.once('close', () => (this.socket = null));
    socket.on('data', (chunk: Buffer) => {
      const lines = (received + chunk.toString('latin1')).split('\n');
      received = lines.pop() ?? '';
      lines.forEach((line) => this.answered(line));
    });
    return socket;
  }
}

/** @returns the body of a reply with status 200; null: none came in time */
export function getByAdmin(root: string, path: string, ms: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socketPath = `${root}/var/run/mdatad/admin.sock`;
    const asked = request({ socketPath, path, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => (body += text));
      response.on('error', () => done(null));
      response.on('end', () => done(response.statusCode === 200 ? body : null));
    });
    const done = (body: string | null): void => {
      clearTimeout(timer);
      asked.destroy();
      resolve(body);
    };
    const timer = setTimeout(() => done(null), ms);
    asked.on('error', () => done(null));
    asked.end();
  });
}

function getRequest(id: string, key: string): string {
  return `${frameOf(`${id} GET ${toBase64(key)}`)}\n`;
}

function valueIn(line: string, id: string): string | null {
  const reply = frameIn(line);
  return reply?.id === id && reply.code === 'SUCCESS' ? fromBase64(reply.payload) : null;
}
