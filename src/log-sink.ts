/*
 * Where log records go: a file descriptor, written in batches off the request path.
 *
 * A full disk, a stuck pipe or a vanished log must cost records, never a request: what cannot be kept
 * within the bound is counted, and the count is told once there is room again. One write is under way
 * at a time. `flushSync` is for the end of the process.
 */
import { write, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { Writable } from 'node:stream';
import { codeOf } from './lib/errors';

/** Enough for a second of the busiest node; beyond it the log is not being read anyway. */
const MOST_BUFFERED_BYTES = 4 * 1024 * 1024;
/** A full disk is looked at again after this. */
const RETRY_MS = 1000;

/** The one stream beneath the logger. */
export class LogSink extends Writable {
  private readonly fd: number;
  private lines: string[] = [];
  private bufferedBytes = 0;
  private writing = false;
  private scheduled = false;
  private lost = 0;
  private lostBefore = 0;

  constructor(fd: number) {
    super({ decodeStrings: false });
    this.fd = fd;
  }

  /** Records that could not be kept since the last time this was told in the log. */
  get lostRecords(): number {
    return this.lost;
  }

  /** Records that could not be kept since the start. */
  get lostInAll(): number {
    return this.lostBefore + this.lost;
  }

  /** bunyan calls this for each record. Never blocks, never fails. */
  override write(line: unknown): boolean {
    const text = String(line);
    if (this.bufferedBytes + text.length > MOST_BUFFERED_BYTES) {
      this.lost++;
      return true;
    }
    this.lines.push(text);
    this.bufferedBytes += text.length;
    if (!this.scheduled && !this.writing) {
      this.scheduled = true;
      setImmediate(() => {
        this.scheduled = false;
        this.flush();
      });
    }
    return true;
  }

  /** Writes out what is buffered, as far as the descriptor takes it now. */
  flushSync(): void {
    let rest = Buffer.from(this.take());
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(this.fd, rest));
      } catch (err) {
        if (codeOf(err) !== 'EINTR') {
          // The process is ending and the log cannot be written: nobody is left to tell.
          return;
        }
      }
    }
  }

  private flush(): void {
    if (this.writing || this.lines.length === 0) {
      return;
    }
    this.writing = true;
    this.writeOut(Buffer.from(this.take()));
  }

  private writeOut(chunk: Buffer): void {
    write(this.fd, chunk, 0, chunk.length, null, (err, written) => {
      if (err === null && written < chunk.length) {
        this.writeOut(chunk.subarray(written));
        return;
      }
      if (err !== null && (err.code === 'EAGAIN' || err.code === 'EINTR')) {
        setTimeout(() => this.writeOut(chunk), 10).unref();
        return;
      }
      this.writing = false;
      if (err === null) {
        this.flush();
        return;
      }
      this.lost += countLines(chunk);
      setTimeout(() => this.flush(), RETRY_MS).unref();
    });
  }

  private take(): string {
    if (this.lost > 0) {
      const { lost } = this;
      this.lostBefore += lost;
      this.lost = 0;
      this.lines.push(lostRecord(lost));
    }
    const text = this.lines.join('');
    this.lines = [];
    this.bufferedBytes = 0;
    return text;
  }
}

/** Made by hand: the logger itself would come back here. */
function lostRecord(lost: number): string {
  const time = new Date().toISOString();
  const identity = { name: 'metadata', hostname: hostname(), pid: process.pid, level: 40 };
  return `${JSON.stringify({ ...identity, lost, msg: 'log records were lost', time, v: 0 })}\n`;
}

function countLines(chunk: Buffer): number {
  let lines = 0;
  for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) {
    lines++;
  }
  return lines;
}
