/*
 * System calls of the agent's process that fail, take long, or are its last, when a test says so, by
 * failing-calls.c in front of libc.
 *
 * A call is a kind (open, read, write, fsync, rename, bind ...) and a part of the path that it is about;
 * a final `$` says that the path ends there. Sockets that the agent made go by the name that they were
 * bound to at first, `.<zone>.<number>` in the directory above; those that it connected by their peer's.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, closeSync, mkdtempSync } from 'node:fs';
import { openSync, readSync, rmSync, writeSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';

/** As failing-rules.c declares them. */
const RULES = 8;
const RULE_BYTES = 256;
const PATH_BYTES = 224;
const AMOUNT_AT = 4;
const HITS_AT = 8;
const ACT_AT = 12;
const ACTS = { fail: 0, 'kill before': 1, 'kill after': 2, delay: 3 } as const;

const DIRECTORY = join(__dirname, '..', '..', '..', 'test', 'support');
const SOURCES = ['failing-calls.c', 'failing-rules.c'].map((name) => join(DIRECTORY, name));

/** Makes a file such that its replacement takes every call: it must be read again, and has another owner and mode. */
export function makeUnlikeNew(path: string): void {
  chownSync(path, 1, 1);
  chmodSync(path, 0o640);
}

export type Call =
  | (
      | 'open'
      | 'read'
      | 'write'
      | 'fsync'
      | 'stat'
      | 'chmod'
      | 'chown'
      | 'close'
      | 'rename'
      | 'link'
      | 'unlink'
      | 'mkdir'
    )
  | ('socket' | 'bind' | 'listen' | 'accept' | 'connect' | 'peer' | 'lock' | 'watch')
  | ('mount' | 'umount' | 'pipe' | 'socketpair' | 'fork' | 'exec');
export type Errno = keyof typeof constants.errno;

/** Null where calls can be made to fail, otherwise why not. */
export function whyNoFailingCalls(): string | null {
  if (process.platform !== 'linux') {
    return 'needs Linux';
  }
  return spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc';
}

export class FailingCalls {
  /** Runs a program with these calls. */
  readonly prefix: readonly string[];
  private readonly directory: string;
  private readonly fd: number;
  private next = 0;

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'calls-'));
    const [library, rules] = ['failing-calls.so', 'rules'].map((name) =>
      join(this.directory, name),
    );
    const flags = ['-shared', '-fPIC', '-O2', '-Wall', '-Wextra', '-Werror'];
    const built = spawnSync('cc', [...flags, '-o', library ?? '', ...SOURCES], {
      encoding: 'utf8',
    });
    if (built.status !== 0) {
      throw new Error(`cc: ${built.stderr}`);
    }
    this.fd = openSync(rules ?? '', 'w+');
    writeSync(this.fd, Buffer.alloc(RULES * RULE_BYTES));
    this.prefix = ['env', `LD_PRELOAD=${library}`, `FAILING_CALLS=${rules}`];
  }

  /** From now on, until `clear`. @returns how often it was met so far */
  fail(call: Call, errno: Errno, path = ''): () => number {
    return this.add('fail', constants.errno[errno], call, path);
  }

  /** The call is made, but only after so long, ms. Otherwise as `fail`. */
  delay(call: Call, ms: number, path: string): () => number {
    return this.add('delay', ms, call, path);
  }

  /** The process is ended by SIGKILL when it is about to make the call, or has just made it. */
  kill(when: 'before' | 'after', call: Call, path: string): () => number {
    return this.add(`kill ${when}`, 0, call, path);
  }

  clear(): void {
    for (let n = 0; n < this.next; n++) {
      this.writeNumber(0, RULE_BYTES * n);
    }
    this.next = 0;
  }

  remove(): void {
    closeSync(this.fd);
    rmSync(this.directory, { recursive: true });
  }

  private add(act: keyof typeof ACTS, amount: number, call: Call, path: string): () => number {
    if (this.next === RULES || Buffer.byteLength(path) >= PATH_BYTES) {
      throw new Error('too many rules, or too long a path');
    }
    const at = RULE_BYTES * this.next++;
    const rule = Buffer.alloc(RULE_BYTES);
    rule.writeInt32LE(amount, AMOUNT_AT);
    rule.writeInt32LE(ACTS[act], ACT_AT);
    rule.write(call, 16, 'latin1');
    rule.write(path, RULE_BYTES - PATH_BYTES, 'utf8');
    writeSync(this.fd, rule, 0, RULE_BYTES, at);
    // Only a rule that is whole comes into force.
    this.writeNumber(1, at);
    return () => {
      const hits = Buffer.alloc(4);
      readSync(this.fd, hits, 0, 4, at + HITS_AT);
      return hits.readInt32LE();
    };
  }

  private writeNumber(value: number, at: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    writeSync(this.fd, bytes, 0, 4, at);
  }
}
