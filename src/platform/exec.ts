/*
 * The one file that starts child processes.
 *
 * A program is started by an argument vector, never through a shell, with a small environment of its own.
 * Its input is fed and closed. Of its output no more than a bound is kept (of stderr the tail, where
 * errors stand), so that a chatty program cannot take our memory. A failure is a SystemError with the exit
 * code by name. It does not kill a program that takes long unless the caller said so.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';
import { basename } from 'node:path';
import { SystemError, systemError } from '../lib/errors';

/** A listing of all VMs or datasets of a node stays below this; more is a fault of the program, bytes. */
const STDOUT_BYTES = 64 * 1024 * 1024;
/** Kept of stderr, bytes: the end of it. */
const STDERR_BYTES = 64 * 1024;
/** Shown of stderr in an error's text, characters. */
const STDERR_CHARS = 1024;

export interface RunOptions {
  /** Fed to the program and then closed; nothing by default. */
  readonly stdin?: string | Buffer;
  /** SIGKILL after this many ms. Absent: as long as it takes (a running `vmadm update` is not killed). */
  readonly timeoutMs?: number;
  /** Added to the fixed PATH. Nothing is inherited from the daemon's own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Leaves stderr out of the error: it may repeat what was fed in. */
  readonly secret?: boolean;
  /** Ends the program by SIGKILL; the result comes when it is dead. */
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end. Rejects with a SystemError: `EXIT_n`, the name of a signal (`SIGABRT`),
 * `ETIMEDOUT`, `EMSGSIZE` (too much on stdout), or the errno of the start (`ENOENT`, `EACCES`).
 *
 * @param argv the program's path, then its arguments
 */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [program = '', ...args] = argv;
  const call = basename(program);
  const subject = args.join(' ');
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const fail = (err: unknown): void => {
      clearTimeout(timer);
      reject(systemError(call, subject, err));
    };
    let child: ChildProcess;
    try {
      child = spawn(program, args, {
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...options.env },
        stdio: ['pipe', 'pipe', 'pipe'],
        shell: false,
      });
    } catch (err) {
      // Some errnos are thrown (ENOMEM), the others come as an event.
      fail(err);
      return;
    }
    child.once('error', fail);
    const { stdin, stdout: out, stderr: err } = child;
    if (!stdin || !out || !err) {
      // No descriptor is left for its pipes: the event follows.
      return;
    }
    const stdout: Buffer[] = [];
    let stdoutBytes = 0;
    let stderr: Buffer[] = [];
    let stderrBytes = 0;
    const stderrText = (): string => {
      return Buffer.concat(stderr).subarray(-STDERR_BYTES).toString('utf8');
    };
    let timedOut = false;
    const end = (): void => {
      child.kill('SIGKILL');
      // A grandchild may hold the other ends open; we wait for none of them.
      out.destroy();
      err.destroy();
    };
    if (options.timeoutMs !== undefined) {
      timer = setTimeout(() => {
        timedOut = true;
        end();
      }, options.timeoutMs);
    }
    options.signal?.addEventListener('abort', end, { once: true });
    if (options.signal?.aborted === true) {
      end();
    }
    out.on('data', (chunk: Buffer) => {
      stdoutBytes += chunk.length;
      if (stdoutBytes <= STDOUT_BYTES) {
        stdout.push(chunk);
      }
    });
    err.on('data', (chunk: Buffer) => {
      stderr.push(chunk);
      stderrBytes += chunk.length;
      if (stderrBytes > 2 * STDERR_BYTES) {
        stderr = [Buffer.from(Buffer.concat(stderr).subarray(-STDERR_BYTES))];
        stderrBytes = STDERR_BYTES;
      }
    });
    // A program may end without reading all of its input: how it ended says whether that was a fault.
    stdin.on('error', () => undefined);
    stdin.end(options.stdin ?? '');
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', end);
      if (code === 0 && stdoutBytes <= STDOUT_BYTES) {
        resolve({ stdout: Buffer.concat(stdout).toString('utf8'), stderr: stderrText() });
        return;
      }
      const detail = options.secret === true ? '' : stderrText().trim().slice(-STDERR_CHARS);
      const ended = code === 0 ? 'EMSGSIZE' : (signal ?? `EXIT_${code ?? 'UNKNOWN'}`);
      reject(new SystemError(call, subject, timedOut ? 'ETIMEDOUT' : ended, detail));
    });
  });
}

/** A program that takes requests for as long as we want it. */
export interface Helper {
  /** Hands it bytes on its descriptor 4. */
  send(bytes: Buffer): void;
  /** SIGKILL. A process that the kernel holds in a file system goes only when that lets go of it. */
  kill(): void;
  /** Closes our ends: it goes when it notices. Nothing comes any more but `ended`. */
  close(): void;
}

export interface HelperOwner {
  /** A line of JSON that came on node's channel, and the socket that came with it. */
  readonly message: (message: unknown, socket: Socket | null) => void;
  /** It is gone, with all that it had open; or could not be started. Once. */
  readonly ended: (err: SystemError) => void;
}

/** Where SMF waits for each process of the service's contract, a helper gets one of its own (ctrun(1)). */
const OWN_CONTRACT: readonly string[] =
  process.platform === 'sunos' ? ['/usr/bin/ctrun', '-l', 'none'] : [];

/**
 * Starts a program that serves us by node's channel (NODE_CHANNEL_FD). It keeps neither the process nor its
 * end waiting: one that hangs in the kernel stays behind.
 *
 * @param argv the program's path, then its arguments
 */
export function startHelper(argv: readonly string[], owner: HelperOwner): Helper {
  const [program = '', ...args] = [...OWN_CONTRACT, ...argv];
  const call = basename(argv[0] ?? '');
  let over = false;
  const end = (err: unknown): void => {
    if (!over) {
      over = true;
      owner.ended(systemError(call, args.join(' '), err));
    }
  };
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc', 'pipe'],
      serialization: 'json',
    });
  } catch (err) {
    process.nextTick(end, err);
    return { send: () => undefined, kill: () => undefined, close: () => undefined };
  }
  // Not `exit`: of a process that the kernel holds its channel is open until it is really gone.
  child.once('disconnect', () => end(new SystemError(call, args.join(' '), 'EPIPE')));
  child.once('error', end);
  child.on('message', (message, handle) => {
    owner.message(message, handle instanceof Socket ? handle : null);
  });
  // Without descriptors for its pipes it has none of them: the event follows.
  const requests = Array.isArray(child.stdio) ? child.stdio[4] : undefined;
  const isOpen = requests instanceof Socket;
  if (isOpen) {
    // The channel says when it is gone.
    requests.on('error', () => undefined);
    requests.unref();
  }
  child.unref();
  child.channel?.unref();
  return {
    send: (bytes) => {
      if (isOpen) {
        requests.write(bytes);
      }
    },
    kill: () => {
      child.kill('SIGKILL');
    },
    close: () => {
      if (isOpen) {
        requests.destroy();
      }
      if (child.connected) {
        child.disconnect();
      }
    },
  };
}
