/*
 * A terminal that a program on this machine takes for its serial port, bridged to a simulated guest's port.
 *
 * Between any two lines that the program writes, the test may do what it wants: each line is held until
 * `beforeLine` has resolved. The bridge is guest-pty.py; it ends with `close`.
 */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { PYTHON } from './guest-cloud-init';

const BRIDGE = join(__dirname, '..', '..', '..', 'test', 'support', 'guest-pty.py');

/** Called with the number of the line, from 0, before the port gets it. */
export type BeforeLine = (line: number) => Promise<void> | void;

export class GuestTerminal {
  /** How many lines of the program have gone to the port. */
  lines = 0;
  /** The terminal's device. */
  readonly path: string;
  private readonly child: ChildProcess;
  private fault: unknown = null;

  private constructor(path: string, child: ChildProcess) {
    this.path = path;
    this.child = child;
  }

  /** @param port the guest's end of a simulated port, a unix socket */
  static async open(
    port: string,
    beforeLine: BeforeLine = () => undefined,
  ): Promise<GuestTerminal> {
    const child = spawn(PYTHON, [BRIDGE, port], { stdio: ['pipe', 'pipe', 'inherit'] });
    const reported = createInterface({ input: child.stdout });
    const exited = once(child, 'exit').then(([code]) => {
      throw new Error(`the bridge to ${port} ended with ${String(code)}`);
    });
    // Later it is only the end of the bridge.
    exited.catch(() => undefined);
    const first = once(reported, 'line') as Promise<[string]>;
    const [path] = await Promise.race([first, exited]);
    const terminal = new GuestTerminal(path, child);
    reported.on('line', (line) => {
      void terminal.received(line, beforeLine);
    });
    return terminal;
  }

  /** Throws what `beforeLine` threw. */
  async close(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit');
      this.child.stdin?.end();
      await exited;
    }
    if (this.fault !== null) {
      throw this.fault;
    }
  }

  private async received(reported: string, beforeLine: BeforeLine): Promise<void> {
    const [, what, digits] = /^(line|sent) (\d+)$/.exec(reported) ?? [];
    assert(what !== undefined, `the bridge said ${reported}`);
    const number = Number(digits);
    if (what === 'sent') {
      this.lines = number + 1;
      return;
    }
    try {
      await beforeLine(number);
    } catch (err) {
      this.fault ??= err;
    }
    this.child.stdin?.write('go\n');
  }
}
