/*
 * A process that writes metadata as the daemon does, told what to write, and killed at a step of it.
 *
 *   node write-child.js FOLDER STEP KEY VALUE [KEY VALUE ...]
 *
 * SIGKILLs itself before its STEP-th system call of a replacement, counted over all of its writes. Prints
 * `ok KEY` for each write that was acknowledged, and `steps N` when it lives to see the end.
 */
import * as fs from 'node:fs/promises';
import { FileWriter } from '../../src/vm/file-writer';
import { Writer } from '../../src/vm/writer';
import { logRecords } from './log-records';

const [folder = '', dieAt = '0', ...pairs] = process.argv.slice(2);
let step = 0;

function next(): void {
  if (++step === Number(dieAt)) {
    process.kill(process.pid, 'SIGKILL');
    // The signal may need a moment to arrive; nothing more is done till then.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }
}

/** The handle with a step before each of its methods. */
function counted(handle: fs.FileHandle): fs.FileHandle {
  return new Proxy(handle, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function'
        ? (...args: unknown[]): unknown => {
            next();
            return Reflect.apply(value, target, args);
          }
        : value;
    },
  });
}

const steps = {
  open: async (...args: Parameters<typeof fs.open>) => {
    next();
    return counted(await fs.open(...args));
  },
  rename: (...args: Parameters<typeof fs.rename>) => {
    next();
    return fs.rename(...args);
  },
  unlink: (...args: Parameters<typeof fs.unlink>) => {
    next();
    return fs.unlink(...args);
  },
};

async function main(): Promise<void> {
  const lockPath = (): string => `${folder}/lock`;
  const writer = new Writer(new FileWriter({ lockPath, steps, confirmMs: 1 }));
  const target = { zonename: 'z', uuid: 'z', folder, log: logRecords().zoneLog('z') };
  for (let at = 0; at < pairs.length; at += 2) {
    const [key = '', value = ''] = pairs.slice(at, at + 2);
    const result = await writer.change(target, { kind: 'set', map: 'customer', key, value });
    process.stdout.write(`${result.kind === 'stored' ? 'ok' : 'failed'} ${key}\n`);
  }
  await writer.stop();
  process.stdout.write(`steps ${step}\n`);
}

void main();
