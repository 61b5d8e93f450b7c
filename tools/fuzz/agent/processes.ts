/* The two processes of a round, the agent and the node: started, watched, and ended whatever hangs. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseJsonObject } from '../../../src/metadata/vm-data';
import { Broken, END_MS, READY_MS, within } from './bounds';
import { holdsCanary } from './zones';

/** bunyan's number of the level. */
const FATAL = 60;
/** A record that no run may bring about, at whatever level. */
const OWN_FAULT = 'internal error while handling a request';

/** The agent, with an ear on all that it says. */
export class AgentProcess {
  /** What it did or said that it never may; '' as long as all is well. */
  trouble = '';
  private readonly child: ChildProcess;
  private readonly started: Promise<void>;

  /** @param onRecord called with the message of each record */
  constructor(argv: readonly string[], onRecord: (msg: string) => void) {
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    child.stderr.on('data', (chunk: Buffer) => this.blame(chunk.toString()));
    this.started = firstLine(child, (line) => {
      const record = parseJsonObject(line);
      const { msg, level } = record ?? {};
      if (typeof level !== 'number' || level >= FATAL || msg === OWN_FAULT) {
        this.blame(line);
      }
      if (holdsCanary(line)) {
        this.blame(`a metadata value is in the log: ${line}`);
      }
      onRecord(String(msg));
      return msg === 'ready';
    });
    // Who waits for it hears of it; who kills it before does not care.
    this.started.catch(() => undefined);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** @throws Broken */
  async ready(): Promise<void> {
    try {
      await this.started;
    } catch (err) {
      throw new Broken(`the agent does not start: ${String(err)} ${this.trouble}`);
    }
  }

  /** @throws Broken when it has ended, or has said what it never may */
  assertWell(): void {
    const status = this.child.exitCode ?? this.child.signalCode;
    if (status !== null) {
      throw new Broken(`the agent ended with ${String(status)}: ${this.trouble}`);
    }
    if (this.trouble !== '') {
      throw new Broken(`the agent says ${this.trouble}`);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** @throws Broken when it does not end well on SIGTERM; it is gone in any case */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const inTime = await ended(this.child, signal);
    if (signal === 'SIGTERM' && (!inTime || this.child.exitCode !== 0)) {
      const { exitCode, signalCode } = this.child;
      const how = inTime ? String(exitCode ?? signalCode) : `nothing for ${END_MS} ms`;
      throw new Broken(`SIGTERM led to ${how}, not to 0: ${this.trouble}`);
    }
  }

  private blame(what: string): void {
    this.trouble ||= what.slice(0, 4000);
  }
}

/**
 * Resolves with the first line of stdout that is wanted; all lines are read.
 * Rejects when the process ends before it, or takes too long.
 */
export function firstLine(child: ChildProcess, wanted: (line: string) => boolean): Promise<void> {
  const { stdout } = child;
  if (stdout === null) {
    throw new Error('a process whose output is read has one');
  }
  const found = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`ended with ${String(code ?? signal)}`)));
    createInterface({ input: stdout }).on('line', (line) => {
      if (wanted(line)) {
        resolve();
      }
    });
  });
  return within(found, READY_MS, () => new Error(`not ready in ${READY_MS} ms`));
}

/** Ends a process, by SIGKILL where the signal does not in time. @returns whether it did */
export async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<boolean> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
    return true;
  }
  const exited = once(child, 'exit');
  child.kill(signal);
  try {
    await within(exited, END_MS, () => new Error('it hangs'));
    return true;
  } catch {
    child.kill('SIGKILL');
    await exited;
    return false;
  }
}
