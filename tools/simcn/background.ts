/*
 * A node without a terminal: started in the background, ended by a command.
 *
 * `simcn up -d` is the same program in a session of its own, with both its outputs in one file,
 * <root>/var/log/simcn.log. `simcn down` asks the node to end and waits until its process is gone: then
 * nothing of it is mounted, listening or running any more.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

import { codeOf } from '../../src/lib/errors';
import { Paths } from '../../src/platform/paths';
import { ask, ControlError } from './control';

/** Hundreds of zones are halted in a few seconds; a machine may be busy. */
const DOWN_WAIT_MS = 120_000;
const POLL_MS = 20;
/** Of what a node said that did not come up. */
const TOLD_LINES = 5;

/**
 * Starts `simcn up` again, without the terminal, and waits until the node is ready.
 * @param argv of `simcn up`, without `-d`
 * @returns how many zones it has
 * @throws Error with the node's own last words where it does not come up
 */
export async function startInBackground(root: string, argv: readonly string[]): Promise<number> {
  const log = logOf(root);
  mkdirSync(dirname(log), { recursive: true, mode: 0o755 });
  const output = openSync(log, 'w', 0o644);
  const [, program = ''] = process.argv;
  const child = spawn(process.execPath, [program, ...argv], {
    detached: true,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  await once(child, 'spawn');
  while (!hasEnded(child)) {
    const first = readFileSync(log, 'utf8').split('\n').find(isReadyLine);
    if (first !== undefined) {
      child.unref();
      return readySchema.parse(JSON.parse(first)).zones;
    }
    await delay(POLL_MS);
  }
  const said = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-TOLD_LINES);
  throw new Error(said.map((line) => line.replace(/^simcn: /, '')).join('\n'));
}

const readySchema = z.object({ ready: z.literal(true), zones: z.number() });

function isReadyLine(line: string): boolean {
  return line.startsWith('{"ready":true');
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Ends the node of this root. @throws ControlError where none is up */
export async function endNode(root: string): Promise<void> {
  const pid = z.number().parse(await ask(root, 'down'));
  const deadline = Date.now() + DOWN_WAIT_MS;
  while (isAlive(pid)) {
    if (Date.now() > deadline) {
      throw new ControlError(`the node (process ${pid}) did not end in ${DOWN_WAIT_MS / 1000} s`);
    }
    await delay(POLL_MS);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (err) {
    return codeOf(err) !== 'ESRCH';
  }
}

/** Where a node in the background writes. */
export function logOf(root: string): string {
  return new Paths(root).host('/var/log/simcn.log');
}
