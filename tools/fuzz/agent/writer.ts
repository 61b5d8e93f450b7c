/*
 * A well-behaved guest of one zone that writes, and remembers what was confirmed as stored: that, or what it
 * has written to the same key since, must be in the zone's file from then on, whatever became of the agent.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../../../src/lib/errors';
import { ownMap, parseJsonObject } from '../../../src/metadata/vm-data';
import { frameIn, frameOf, toBase64 } from '../model/wire';
import { CANARY } from './zones';

/** Writes to the same keys meet in the agent. */
const KEYS_A_CONNECTION = 4;
const DELETES_ONE_IN = 5;
const POLL_MS = 10;

interface Write {
  readonly number: number;
  readonly key: string;
  /** Null: the key was deleted. */
  readonly value: string | null;
}

export class Writer {
  private socket: Socket | null = null;
  private connections = 0;
  private writes = 0;
  private unanswered = new Map<number, Write>();
  /** The latest that was answered with SUCCESS, by key. */
  private promised = new Map<string, Write>();
  private asked: Write[] = [];

  constructor(private readonly path: string) {}

  write(count: number): void {
    const socket = this.socket ?? this.open();
    for (let n = 0; n < count; n++) {
      const number = ++this.writes;
      // Keys of its own for each connection: nothing says in which order two of them are handled.
      const key = `w${this.connections}.${number % KEYS_A_CONNECTION}`;
      const value = number % DELETES_ONE_IN === 0 ? null : `${CANARY} ${number}`;
      const write = { number, key, value };
      this.unanswered.set(number, write);
      this.asked.push(write);
      socket.write(`${frameOf(bodyOf(write))}\n`);
    }
  }

  /** Writes once more. @returns whether it is confirmed as stored within `ms` */
  async confirm(ms: number): Promise<boolean> {
    const end = performance.now() + ms;
    this.write(1);
    const number = this.writes;
    while (this.unanswered.has(number) && performance.now() < end) {
      await delay(POLL_MS);
    }
    return [...this.promised.values()].some((write) => write.number === number);
  }

  /** Somebody else has changed the file: nothing holds of what was confirmed so far. */
  discard(): void {
    this.unanswered.clear();
    this.promised.clear();
    this.asked = [];
  }

  /** @param path the zone's metadata.json; @returns what is not there as promised, '' when all is */
  missing(path: string): string {
    if (this.promised.size === 0) {
      return '';
    }
    const stored = storedIn(path);
    if (stored === null) {
      return `${this.promised.size} writes were promised, and there is no file`;
    }
    for (const { number, key, value } of this.promised.values()) {
      const there: unknown = stored.get(key) ?? null;
      const later = this.asked.filter((write) => write.key === key && write.number > number);
      if (there !== value && !later.some((write) => write.value === there)) {
        return `write ${number} of ${key} was promised, and there is ${JSON.stringify(there)}`;
      }
    }
    return '';
  }

  leave(): void {
    this.socket?.destroy();
    this.socket = null;
  }

  private open(): Socket {
    const socket = connect(this.path);
    this.socket = socket;
    this.connections++;
    let received = '';
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (this.socket === socket) {
        this.socket = null;
      }
    });
    socket.on('data', (chunk: Buffer) => {
      const lines = (received + chunk.toString('latin1')).split('\n');
      received = lines.pop() ?? '';
      lines.forEach((line) => this.hear(line));
    });
    return socket;
  }

  private hear(line: string): void {
    const reply = frameIn(line);
    const number = parseInt(reply?.id ?? '', 16);
    const write = this.unanswered.get(number);
    if (write !== undefined) {
      this.unanswered.delete(number);
      if (reply?.code === 'SUCCESS') {
        this.promised.set(write.key, write);
        this.asked = this.asked.filter((one) => one.key !== write.key || one.number > number);
      }
    }
  }
}

/** The customer metadata in the file; null where there is no such file. */
function storedIn(path: string): ReadonlyMap<string, unknown> | null {
  try {
    return ownMap(parseJsonObject(readFileSync(path, 'utf8')) ?? {}, 'customer_metadata');
  } catch (err) {
    if (codeOf(err) !== 'ENOENT') {
      throw err;
    }
    return null;
  }
}

function bodyOf({ number, key, value }: Write): string {
  const id = number.toString(16).padStart(8, '0');
  return value === null
    ? `${id} DELETE ${toBase64(key)}`
    : `${id} PUT ${toBase64(`${toBase64(key)} ${toBase64(value)}`)}`;
}
