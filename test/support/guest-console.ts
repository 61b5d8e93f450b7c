/*
 * A real guest's first serial port, which the hypervisor writes to a file: what the guest says.
 *
 * The file begins anew with each hypervisor process.
 */
import { readFileSync } from 'node:fs';

import { codeOf, messageOf } from '../../src/lib/errors';
import { eventually } from './eventually';

const SHOWN_CHARACTERS = 2000;

export class GuestConsole {
  private readonly path: string;

  /** @param path host path of the file, which need not be there yet */
  constructor(path: string) {
    this.path = path;
  }

  /** All that was said so far, in lines without their ends. */
  lines(): string[] {
    try {
      return readFileSync(this.path, 'utf8').split(/\r*\n/);
    } catch (err) {
      if (codeOf(err) === 'ENOENT') {
        return [];
      }
      throw err;
    }
  }

  /** Waits for a whole line that fits. Rejects, with the end of the log, also where the guest gave up. */
  async until(wanted: RegExp, ms: number): Promise<RegExpExecArray> {
    const reported = () => this.lines().slice(0, -1);
    const gaveUp = () => reported().some((line) => /^GUEST FAILED|Kernel panic/.test(line));
    const found = () => reported().some((line) => wanted.test(line)) || gaveUp();
    await eventually(found, `the guest's output ${String(wanted)}`, ms).catch((err: unknown) => {
      throw new Error(`${messageOf(err)}:\n${this.tail()}`, { cause: err });
    });
    const line = reported().find((each) => wanted.test(each)) ?? '';
    const match = wanted.exec(line);
    if (match === null) {
      throw new Error(`the guest gave up before ${String(wanted)}:\n${this.tail()}`);
    }
    return match;
  }

  private tail(): string {
    return this.lines().join('\n').slice(-SHOWN_CHARACTERS);
  }
}
