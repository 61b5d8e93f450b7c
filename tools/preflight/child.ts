/*
 * The program that preflight.ts runs for each probe, in a process of its own: a native call that crashes,
 * hangs or corrupts memory on a platform that is not as we believe ends that process, and is named.
 *
 *   node child.js PROBE ROOT DIRECTORY LOCK     prints a finding as JSON
 *   node child.js as UID DIRECTORY PATH         connects as that user; prints its pid and the outcome: `connected`,
 *                                               or the errno's name
 *   node child.js try-lock PATH                 prints whether the lock is free
 *
 * Nothing native is loaded before a probe asks for it, so that what does not load is named too.
 */
import { writeSync } from 'node:fs';
import { connect } from 'node:net';
import { messageOf, codeOf } from '../../src/lib/errors';
import { widenThreadPool } from '../../src/config';
import { fail, ok, PROBES, type Finding, type ProbeName } from './check';

/** The other side closes as soon as it knows who came. */
const CONNECT_MS = 3000;

async function main([command = '', ...operands]: readonly string[]): Promise<unknown> {
  switch (command) {
    case 'as':
      return connectAs(operands);
    case 'try-lock':
      return tryLock(operands);
    default: {
      const name = PROBES.find((probe) => probe === command);
      return name === undefined ? fail(`no probe is named ${command}`) : probe(name, operands);
    }
  }
}

async function probe(name: ProbeName, operands: readonly string[]): Promise<Finding> {
  const [root = '', directory = '', lock = ''] = operands;
  try {
    switch (name) {
      case 'addon': {
        const { loadAddon } = await import('../../src/platform/addon.js');
        return ok(`loaded, ${Object.keys(loadAddon()).length} functions`);
      }
      case 'ffi': {
        const { onRoot, openLibraries } = await import('../../src/platform/ffi.js');
        openLibraries();
        onRoot(root);
        return ok('libc and libzonecfg opened, every function found');
      }
      default: {
        const { probes } = await import('./file-probes.js');
        return await probes[name]({ root, directory, lock });
      }
    }
  } catch (err) {
    // The first line: what follows is a stack of modules.
    return fail(messageOf(err).split('\n')[0] ?? '');
  }
}

/**
 * Connects by a path below `directory`, which is entered first: what is above it is not tested. Stays until the other side closes, as not every kernel knows the peer of a closed connection.
 */
async function connectAs([uid = '', directory = '', path = '']: readonly string[]) {
  process.chdir(directory);
  if (Number(uid) !== process.geteuid?.()) {
    process.setgroups?.([]);
    process.setgid?.(Number(uid));
    process.setuid?.(Number(uid));
  }
  const outcome = await new Promise<string>((resolve) => {
    const socket = connect({ path });
    socket.setTimeout(CONNECT_MS, () => {
      socket.destroy();
      resolve('ETIMEDOUT');
    });
    socket.once('error', (err) => resolve(codeOf(err)));
    socket.once('close', () => resolve('connected'));
    socket.resume();
  });
  return { pid: process.pid, outcome };
}

async function tryLock([path = '']: readonly string[]) {
  const { tryLock: lock } = await import('../../src/platform/lock.js');
  return { free: lock(path) !== null };
}

/** A thread of the pool that waits for a hung file must not keep the process. */
async function endAtOnce(): Promise<void> {
  try {
    const { exitAtOnce } = await import('../../src/platform/process.js');
    exitAtOnce(0);
  } catch {
    // Without ffi nothing native runs: the process ends by itself.
  }
}

// As the agent does at its start; before anything uses the pool.
widenThreadPool();
// What a probe waits for may be a program that keeps nobody alive (platform/zone-root.ts).
const alive = setInterval(() => undefined, 60_000);
void main(process.argv.slice(2))
  .catch((err: unknown) => fail(messageOf(err)))
  .then((result) => {
    writeSync(1, `${JSON.stringify(result)}\n`);
    clearInterval(alive);
    return endAtOnce();
  });
