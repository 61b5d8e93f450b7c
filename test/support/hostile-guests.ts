/* Hostile guests that press the agent from a process of their own (hostile-child.ts). */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { within } from './guest-session';

const CHILD = join(__dirname, 'hostile-child.js');

/** What the child's page tells. */
export type HostileMode = 'mute' | 'reads' | 'leaves' | 'pours' | 'pieces';

export interface HostileOptions {
  /** Of the zones' sockets. */
  readonly paths: readonly string[];
  readonly requests: readonly Buffer[];
  /** On each socket. */
  readonly connections: number;
  readonly mode: HostileMode;
  /** Until all have asked, at most. */
  readonly startMs?: number;
}

export class HostileGuests {
  private child: ChildProcess | null;

  private constructor(child: ChildProcess) {
    this.child = child;
  }

  /** Resolves when each connection has asked once. */
  static async start(options: HostileOptions): Promise<HostileGuests> {
    const { paths, requests, connections, mode, startMs = 60_000 } = options;
    const child = fork(CHILD, [String(connections), mode], {
      execArgv: [],
      stdio: ['pipe', 'inherit', 'inherit', 'ipc'],
    });
    const guests = new HostileGuests(child);
    const lines = requests.map((bytes) => bytes.toString('hex'));
    child.stdin?.end([...lines, '', ...paths].join('\n'));
    try {
      await within(once(child, 'message'), startMs, 'all hostile guests asked');
    } catch (err) {
      await guests.stop();
      throw err;
    }
    return guests;
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    const { child } = this;
    this.child = null;
    if (child !== null) {
      const exited = once(child, 'exit');
      child.disconnect();
      await exited;
    }
  }
}
