/*
 * How simcn's commands reach the node: a unix socket, one JSON request a line, one JSON answer a line.
 *
 *   -> {"command":"boot","args":{"uuid":"…"}}
 *   <- {"ok":true,"result":null}   or   {"ok":false,"error":"with a message for a person"}
 *
 * A connection may stay open after its answer: the node closes it when what was asked for ends (a
 * session in a zone, when the zone halts), and a close from the other side means that the asker is gone.
 *
 * A node without a terminal (`simcn up -d`) is the same program in a session of its own, with both outputs in
 * <root>/var/log/simcn.log. `simcn down` asks the node to end and waits until its process is gone: then nothing
 * of it is mounted, listening or running any more.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';

import { codeOf, describeError, messageOf } from '../../src/lib/errors';
import { Paths } from '../../src/platform/paths';

const requestSchema = z.object({
  command: z.string(),
  args: z.record(z.string(), z.unknown()).default({}),
});
const answerSchema = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), result: z.unknown() }),
  z.object({ ok: z.literal(false), error: z.string() }),
]);

export type Args = Readonly<Record<string, unknown>>;
/** @param caller the connection, for commands that outlive their answer */
export type Serve = (command: string, args: Args, caller: Socket) => Promise<unknown>;

/** Serves one control socket from `listen` to `close`. */
export class ControlServer {
  private readonly server: Server;
  private readonly callers = new Set<Socket>();

  constructor(serve: Serve) {
    this.server = createServer((caller) => {
      this.callers.add(caller);
      caller.once('close', () => this.callers.delete(caller));
      // A command that was interrupted: `close` says the same.
      caller.on('error', () => undefined);
      const lines = createInterface({ input: caller, crlfDelay: Infinity });
      // An interface tells its input's errors once more.
      lines.on('error', () => undefined);
      lines.on('line', (line) => void answer(line, caller, serve));
    });
  }

  async listen(path: string): Promise<void> {
    this.server.listen(path);
    await once(this.server, 'listening');
  }

  async close(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const caller of this.callers) {
      caller.destroy();
    }
    await closed;
  }
}

async function answer(line: string, caller: Socket, serve: Serve): Promise<void> {
  let reply: unknown;
  try {
    const { command, args } = requestSchema.parse(JSON.parse(line));
    reply = { ok: true, result: (await serve(command, args, caller)) ?? null };
  } catch (err) {
    reply = { ok: false, error: messageOf(err) };
  }
  if (!caller.destroyed) {
    caller.write(`${JSON.stringify(reply)}\n`);
  }
}

/** A conversation with the node; `end` it, or keep it open for as long as the session lasts. */
export interface Call {
  readonly result: unknown;
  /** Resolves when the node ends the conversation. */
  readonly ended: Promise<unknown>;
  readonly end: () => void;
}

/** The node did not understand or could not do it; or there is none. */
export class ControlError extends Error {}

/** @throws ControlError with a message for a person */
export function call(root: string, command: string, args: Args): Promise<Call> {
  const missing = `no node is up at ${root} (start it: simcn up --root ${root})`;
  return callAt(controlSocket(root), missing, command, args);
}

/** @param missing the message where nothing listens */
async function callAt(path: string, missing: string, command: string, args: Args): Promise<Call> {
  // Half open: a command that gets the end may still have something to finish before it closes.
  const socket = connect({ path, allowHalfOpen: true });
  // Later errors end in `close`, which is all that anyone waits for.
  socket.on('error', () => undefined);
  try {
    await once(socket, 'connect');
  } catch (err) {
    if (['ENOENT', 'ECONNREFUSED'].includes(codeOf(err))) {
      throw new ControlError(missing);
    }
    const message = `cannot reach the node at ${path}: ${describeError(err)}`;
    throw new ControlError(message, { cause: err });
  }
  const ended = new Promise<unknown>((resolve) => {
    socket.once('end', resolve);
    socket.once('close', resolve);
  });
  const lines = createInterface({ input: socket, crlfDelay: Infinity });
  lines.on('error', () => undefined);
  const line = new Promise<string | null>((resolve) => {
    lines.once('line', resolve);
    lines.once('close', () => resolve(null));
  });
  socket.write(`${JSON.stringify({ command, args })}\n`);
  const text = await line;
  if (text === null) {
    socket.destroy();
    throw new ControlError(`the node at ${path} ended before it answered`);
  }
  const reply = answerSchema.parse(JSON.parse(text));
  if (!reply.ok) {
    socket.destroy();
    throw new ControlError(reply.error);
  }
  return { result: reply.result, ended, end: () => socket.destroy() };
}

/** A call that is over with its answer. */
export async function ask(root: string, command: string, args: Args = {}): Promise<unknown> {
  const { result, end } = await call(root, command, args);
  end();
  return result;
}

/** The same over a socket that a zone has. */
export async function askAt(path: string, command: string, args: Args): Promise<unknown> {
  const { result, end } = await callAt(path, 'the zone is not running', command, args);
  end();
  return result;
}

/** Where `simcn up` of this root listens. */
export function controlSocket(root: string): string {
  return `${root}/var/run/simcn.sock`;
}

/** Hundreds of zones are halted in a few seconds; a machine may be busy. */
const DOWN_WAIT_MS = 120_000;
const POLL_MS = 20;
/** Of the output of a node that did not come up. */
const SHOWN_LINES = 5;

/**
 * Starts `simcn up` again, without the terminal, and waits until the node is ready.
 * @param argv of `simcn up`, without `-d`
 * @returns how many zones it has
 * @throws Error with the end of the node's output where it does not come up
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
  const lastLines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-SHOWN_LINES);
  throw new Error(lastLines.map((line) => line.replace(/^simcn: /, '')).join('\n'));
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
