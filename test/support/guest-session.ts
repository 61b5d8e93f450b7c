/*
 * A guest's program as it should be: V2 over a socket, one answer for each request, in their order, each
 * whole and with the right id, length and CRC (or the test fails). Says how long each answer took.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { codeOf } from '../../src/lib/errors';
import { base64, frame } from './frames';

/** The longest that a client of the platform waits, ms. */
const CLIENT_PATIENCE_MS = 45_000;

export interface Answer {
  readonly code: string;
  readonly text: string;
  readonly ms: number;
}

interface Waiting {
  readonly id: string;
  readonly since: number;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (err: Error) => void;
}

export class GuestSession {
  readonly socket: Socket;
  private readonly waiting: Waiting[] = [];
  private chunks: Buffer[] = [];
  private lastId = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.received(chunk));
    socket.on('error', () => undefined);
    socket.once('close', () => {
      for (const { reject } of this.waiting.splice(0)) {
        reject(new Error('the agent hung up'));
      }
    });
  }

  /** Rejects when nobody listens. */
  static async open(path: string): Promise<GuestSession> {
    return new GuestSession(await connectTo(path));
  }

  get(key: string): Promise<Answer> {
    return this.ask('GET', key);
  }

  keys(): Promise<Answer> {
    return this.ask('KEYS', '');
  }

  put(key: string, value: string | Buffer): Promise<Answer> {
    return this.ask('PUT', `${base64(Buffer.from(key))} ${Buffer.from(value).toString('base64')}`);
  }

  remove(key: string): Promise<Answer> {
    return this.ask('DELETE', key);
  }

  /** Requests may be asked without waiting for the answers before. @param mostMs an answer may take so long */
  ask(code: string, payload: string, mostMs = CLIENT_PATIENCE_MS): Promise<Answer> {
    const id = (++this.lastId).toString(16).padStart(8, '0');
    const answer = new Promise<Answer>((resolve, reject) => {
      this.waiting.push({ id, since: performance.now(), resolve, reject });
    });
    this.socket.write(frame(id, code, payload));
    return within(answer, mostMs, `${code} without an answer`);
  }

  close(): void {
    this.socket.destroy();
  }

  private received(chunk: Buffer): void {
    this.chunks.push(chunk);
    if (!chunk.includes(0x0a)) {
      return;
    }
    let bytes = Buffer.concat(this.chunks);
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a)) {
      const line = bytes.toString('latin1', 0, end);
      bytes = bytes.subarray(end + 1);
      const asked = this.waiting.shift();
      assert(asked !== undefined, `nobody asked for ${line.slice(0, 100)}`);
      const ms = performance.now() - asked.since;
      const { id, code, text } = readReply(line);
      assert.strictEqual(id, asked.id, 'answers come in the order of the requests');
      asked.resolve({ code, text, ms });
    }
    this.chunks = bytes.length === 0 ? [] : [bytes];
  }
}

/** Replies can be megabytes, and many: no more of them is read than has to be. */
function readReply(line: string): { id: string; code: string; text: string } {
  const [version, length, crc, id = '', code = '', payload = '', ...more] = line.split(' ');
  const body = line.slice(`V2 ${length ?? ''} ${crc ?? ''} `.length);
  assert(version === 'V2' && more.length === 0, `no frame: ${line.slice(0, 100)}`);
  assert.strictEqual(Number(length), body.length);
  assert.strictEqual(crc, crc32(body).toString(16).padStart(8, '0'));
  return { id, code, text: Buffer.from(payload, 'base64').toString('utf8') };
}

/** Rejects with `what` when the promise takes longer than `ms`. */
export async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The value below which `fraction` of all are. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
}

/**
 * A connection to the socket at a path. Where its backlog is full, as when hundreds connect at once to a busy
 * agent, Linux answers EAGAIN to who does not block: like the connect of one who does, this waits for room.
 */
export async function connectTo(path: string): Promise<Socket> {
  const deadline = performance.now() + CLIENT_PATIENCE_MS;
  for (;;) {
    const socket = connect(path);
    try {
      await once(socket, 'connect');
      return socket;
    } catch (err) {
      if (codeOf(err) !== 'EAGAIN' || performance.now() > deadline) {
        throw err;
      }
    }
    await delay(10);
  }
}
