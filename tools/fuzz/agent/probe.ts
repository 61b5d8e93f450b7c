/* Questions as a zone's own programs ask them, and as an operator does. */
import { connect, type Socket } from 'node:net';
import { request } from 'node:http';
import { frameIn, frameOf, fromBase64, toBase64 } from '../model/wire';

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

/** A program in a guest that has the serial port open. */
export class Terminal {
  private readonly path: string;
  private socket: Socket | null = null;
  private asked = 0;
  private answered: (line: string) => void = () => undefined;

  /** @param path of the guest's end of the port */
  constructor(path: string) {
    this.path = path;
  }

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
