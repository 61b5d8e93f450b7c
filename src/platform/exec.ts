/*
 * The one file that starts child processes: by an argument vector, never through a shell, with a small environment of
 * their own. A program that takes long is not killed unless the caller said so; one that prints without end is, so that
 * it cannot take our memory.
 */
import { execFile, spawn, type ChildProcess, type ExecFileException } from 'node:child_process';
import { Socket } from 'node:net';
import { basename } from 'node:path';
import { SystemError, systemError } from '../lib/errors';

/** On each of its outputs. A listing of all VMs or datasets of a node stays below this. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
/** Shown of stderr in an error's text, characters: the end of it, where errors stand. */
const STDERR_CHARS = 1024;
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

export interface RunOptions {
  /** Fed to the program and then closed; nothing by default. */
  readonly stdin?: string | Buffer;
  /** SIGKILL after this many ms. Absent: as long as it takes (as a `vmadm update` may). */
  readonly timeoutMs?: number;
  /** Added to the fixed PATH. Nothing is inherited from the daemon's own environment. */
  readonly env?: NodeJS.ProcessEnv;
  /** Leaves stderr out of the error: it may repeat what was fed in. */
  readonly secret?: boolean;
  /** Ends the program by SIGKILL; the result comes when it is dead. */
  readonly signal?: AbortSignal;
}

/**
 * Runs a program to its end, its input fed and closed.
 * @param argv the program's path, then its arguments
 * @throws SystemError `EXIT_n`, the name of a signal, `ETIMEDOUT`, `EMSGSIZE` (too much output), or the start's errno
 */
export async function run(
  argv: readonly string[],
  { stdin = '', timeoutMs = 0, env, secret = false, signal }: RunOptions = {},
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const [program = '', ...args] = argv;
  const call = basename(program);
  const subject = args.join(' ');
  let abort = (): void => undefined;
  const ended = new Promise<{ stdout: string; stderr: string }>((resolve, reject) => {
    const child = execFile(
      program,
      args,
      {
        env: { PATH, ...env },
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: MAX_OUTPUT_BYTES,
      },
      (err, stdout, stderr) => {
        if (err === null) {
          resolve({ stdout, stderr });
        } else if (err.syscall !== undefined) {
          reject(systemError(call, subject, err));
        } else {
          const detail = secret ? '' : stderr.trim().slice(-STDERR_CHARS);
          reject(new SystemError(call, subject, endOf(err, signal?.aborted === true), detail));
        }
      },
    );
    abort = () => {
      child.kill('SIGKILL');
      // A grandchild may hold the other ends open; we wait for none of them.
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted === true) {
      abort();
    }
    // A program may end without reading all of its input: how it ended says whether that was a fault.
    child.stdin?.on('error', () => undefined).end(stdin);
  });
  try {
    return await ended;
  } catch (err) {
    // Some errnos of the start are thrown (ENOMEM).
    throw systemError(call, subject, err);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

function endOf({ code, killed, signal }: ExecFileException, aborted: boolean): string {
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') {
    return 'EMSGSIZE';
  }
  return killed === true && !aborted ? 'ETIMEDOUT' : (signal ?? `EXIT_${code ?? 'UNKNOWN'}`);
}

/** A program that takes requests for as long as we want it. */
export interface Helper {
  /** Hands it bytes on its descriptor 4. */
  readonly send: (bytes: Buffer) => void;
  /** Closes our ends: it goes when it notices. */
  readonly close: () => void;
}

const NOT_STARTED: Helper = { send: () => undefined, close: () => undefined };

/** Where SMF waits for each process of the service's contract, a helper gets one of its own (ctrun(1)). */
const OWN_CONTRACT: readonly string[] =
  process.platform === 'sunos' ? ['/usr/bin/ctrun', '-l', 'none'] : [];

/**
 * Starts a program that serves us by node's channel (NODE_CHANNEL_FD). It keeps neither the process nor its end waiting:
 * one that hangs in the kernel stays behind.
 * @param argv the program's path, then its arguments
 * @param onMessage given what came as JSON on the channel, and the socket that came with it
 * @param onEnd called once: it is gone, with all that it had open; or could not be started
 */
export function startHelper(
  argv: readonly string[],
  onMessage: (message: unknown, socket: Socket | null) => void,
  onEnd: (err: SystemError) => void,
): Helper {
  const [program = '', ...args] = [...OWN_CONTRACT, ...argv];
  const call = basename(argv[0] ?? '');
  let over = false;
  const end = (err: unknown): void => {
    if (!over) {
      over = true;
      onEnd(systemError(call, args.join(' '), err));
    }
  };
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      env: { PATH },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc', 'pipe'],
      serialization: 'json',
    });
  } catch (err) {
    // As above.
    process.nextTick(end, err);
    return NOT_STARTED;
  }
  // Not `exit`: of a process that the kernel holds its channel is open until it is really gone.
  child.once('disconnect', () => end(new SystemError(call, args.join(' '), 'EPIPE')));
  child.once('error', end);
  child.on('message', (message, handle) => {
    onMessage(message, handle instanceof Socket ? handle : null);
  });
  child.unref();
  child.channel?.unref();
  // Where no descriptor was left for its pipes there is none: the event follows.
  const requests = Array.isArray(child.stdio) ? child.stdio[4] : undefined;
  if (!(requests instanceof Socket)) {
    return NOT_STARTED;
  }
  // The channel says when it is gone.
  requests.on('error', () => undefined);
  requests.unref();
  return {
    send: (bytes) => void requests.write(bytes),
    close: () => {
      requests.destroy();
      if (child.connected) {
        child.disconnect();
      }
    },
  };
}
