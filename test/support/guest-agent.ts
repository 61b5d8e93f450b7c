/*
 * The agent as a process of its own on a node: started, killed and started again under a guest's hands.
 *
 * Its log is kept, record by record, and shown when it ends where it must not. A test that starts one
 * ends it: by `stop` (SIGTERM, all answered first) or `kill` (SIGKILL, as a crash).
 */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { keepStream } from './said';

const MDATAD = join(__dirname, '..', '..', 'src', 'main.js');
/** About a second on an idle machine. */
const READY_MS = 30_000;
const SHOWN_RECORDS = 20;

export class AgentProcess {
  readonly records: JsonObject[] = [];
  private readonly child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.child = child;
  }

  /**
   * Resolves when it is ready: all sockets of the first snapshot listen.
   * @param prefix a command that runs the agent: as another user, under limits
   */
  static async start(
    root: string,
    flags: readonly string[] = [],
    prefix: readonly string[] = [],
  ): Promise<AgentProcess> {
    const argv = [...prefix, process.execPath, MDATAD, '--root', root, ...flags];
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    const program = `mdatad-${String(child.pid)}`;
    keepStream(program, child.stdout);
    keepStream(program, child.stderr);
    const agent = new AgentProcess(child);
    try {
      await agent.ready();
    } catch (err) {
      await agent.kill();
      throw err;
    }
    return agent;
  }

  get pid(): number {
    assert(this.child.pid !== undefined, 'a started process has an id');
    return this.child.pid;
  }

  /** As a crash would end it: nothing is answered, nothing is cleaned up. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** @throws AssertionError when it does not end well */
  async stop(): Promise<void> {
    const code = await this.end('SIGTERM');
    assert.strictEqual(code, 0, `mdatad ended with ${String(code)}:\n${this.lastRecords()}`);
  }

  private async end(signal: NodeJS.Signals): Promise<number | null> {
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill(signal);
      await exited;
    }
    return child.exitCode;
  }

  private async ready(): Promise<void> {
    const { child } = this;
    assert(child.stdout !== null && child.stderr !== null);
    child.stderr.on('data', (chunk: Buffer) => this.records.push({ stderr: chunk.toString() }));
    const lines = createInterface({ input: child.stdout });
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`mdatad ${why}:\n${this.lastRecords()}`));
      const timer = setTimeout(() => fail(`was not ready within ${READY_MS} ms`), READY_MS);
      // Not `exit`: its last words are still on their way then.
      child.once('close', (code, signal) => {
        clearTimeout(timer);
        fail(`ended with ${String(code ?? signal)}`);
      });
      lines.on('line', (line) => {
        const record = parseJsonObject(line) ?? { line };
        this.records.push(record);
        if (record.msg === 'ready') {
          clearTimeout(timer);
          resolve();
        }
      });
    });
  }

  private lastRecords(): string {
    return this.records
      .slice(-SHOWN_RECORDS)
      .map((record) => JSON.stringify(record))
      .join('\n');
  }
}
