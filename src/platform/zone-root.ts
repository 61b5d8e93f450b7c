/*
 * What lies below zones' roots: the one place that goes there, and it never does so by itself.
 *
 * A guest can put a link below its root that leads to another zone, or mount a file system there that never answers;
 * who names a path below it may then be held in the kernel for ever. So neither the main thread nor libuv's pool does.
 * Processes of their own do (native/zone_root.c), one request at a time each:
 *
 *   find, dial, stat, mount --> queue of the zone --> a process that is idle, or another one --> reply
 *
 * What always holds: a zone has one request under way at most, and it is never given up for another: what hangs holds
 * one process of some 200 KiB until its file system answers or the process is gone. A process that has not answered for
 * HUNG_MS no longer counts as working, so zones that hang take nothing from the others but memory. The agent waits for
 * none of them when it ends. Elsewhere a zone's root is a ZoneRoot, not a path: it cannot be opened.
 */
import assert from 'node:assert';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { errnoName, SystemError, systemError } from '../lib/errors';
import { either, members, text, whole } from '../lib/json-reader';
import { startHelper, type Helper } from './exec';

/** The same from every directory that is built into: <top>/dist/src/platform. */
const PROGRAM = join(__dirname, '../../../native/build/Release/zone_root');

/** What is there takes microseconds; a busy machine and a disk that is woken up take longer. */
const HUNG_MS = 250;
/** From here on it is logged. */
const NOT_ANSWERING_MS = 1000;
/** Processes that work at the same time: more make it no faster, and zones that begin to hang keep each busy. */
const MAX_WORKING = 8;
/** Kept for the next request. */
const MAX_IDLE = 2;
/** With those that hang: 100 MiB. A zone takes one at most, so this is never met but by as many zones. */
const MAX_PROCESSES = 512;
/** As zone_root.c has it. */
const FIELD_BYTES = 4096;

/** Gets a record for a zone whose file system hangs, and one when it answers again. */
export interface RootLog {
  warn(fields: object, msg: string): void;
  info(fields: { readonly after_ms: number }, msg: string): void;
}

/** As zone_root.c writes it: of a failure, the call and how deep the walk was; else what was found. */
const readReply = members({
  err: whole(0, Infinity),
  call: either(text(), ''),
  depth: either(whole(0, Infinity), 0),
  identity: either(text(), ''),
  dev: either(text(/^\d+$/), '0'),
  ino: either(text(/^\d+$/), '0'),
});
type Reply = ReturnType<typeof readReply>;

interface Answer {
  readonly reply: Reply;
  readonly socket: Socket | null;
}

interface Job {
  readonly queue: ZoneQueue;
  readonly request: Buffer;
  readonly log: RootLog | null;
  settle: (outcome: Answer | SystemError) => void;
}

/** Settles what nobody waits for any more. */
function discard(outcome: Answer | SystemError): void {
  if (!(outcome instanceof SystemError)) {
    outcome.socket?.destroy();
  }
}

/** The requests of one zone, first come, first served; there is one exactly while the zone has some. */
interface ZoneQueue {
  readonly root: string;
  readonly jobs: Set<Job>;
  running: Job | null;
  /** The running one takes so long that it was logged. */
  hangs: boolean;
}

interface Process {
  readonly helper: Helper;
  job: Job | null;
  since: number;
  hung: boolean;
  timer: NodeJS.Timeout | undefined;
}

/** All zones' roots of a node; one serves the agent. Processes are started when they are needed. */
export class ZoneRoots {
  /** By the zone's root: a zone that comes back under its path waits for what hangs of the one before. */
  private readonly zones = new Map<string, ZoneQueue>();
  /** Of these the first request waits for a process. */
  private readonly waiting = new Set<ZoneQueue>();
  private readonly processes = new Set<Process>();
  private stopped = false;

  /** @param node root of the node, as for `openPlatform` */
  constructor(
    private readonly node: string,
    private readonly program = PROGRAM,
  ) {}

  /** @param zonepath this machine's path of the zone's own directory, which belongs to the global zone */
  of(zonepath: string, log: RootLog | null = null): ZoneRoot {
    return new ZoneRoot(`${zonepath}/root`, this, log);
  }

  /** Whether a request of this zone has been under way for more than a second. For its ZoneRoot. */
  hangs(root: string): boolean {
    return this.zones.get(root)?.hangs === true;
  }

  /** Fails what is asked for, and lets every process go: those that hang go when they can. */
  stop(): void {
    this.stopped = true;
    for (const { root, jobs, running } of this.zones.values()) {
      for (const job of running === null ? jobs : [running, ...jobs]) {
        job.settle(new SystemError('zone_root', root, 'ECANCELED'));
      }
      jobs.clear();
    }
    this.zones.clear();
    this.waiting.clear();
    this.processes.forEach((process) => this.letGo(process));
  }

  /** Has a command executed below a zone's root, after those that were asked for before. For its ZoneRoot. */
  async ask(
    root: string,
    log: RootLog | null,
    [command, path, special]: readonly [command: string, path: string, special: string],
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    const subject = join(root, path);
    const fields = [command, root, path, special];
    if (fields.some((field) => field.includes('\0') || Buffer.byteLength(field) >= FIELD_BYTES)) {
      throw new SystemError(command, subject, 'EINVAL', 'not a path');
    }
    const cancelled = new SystemError(command, subject, 'ECANCELED');
    if (this.stopped || signal?.aborted === true) {
      throw cancelled;
    }
    const queue = this.zones.get(root) ?? { root, jobs: new Set(), running: null, hangs: false };
    this.zones.set(root, queue);
    const request = Buffer.from(`${fields.join('\0')}\0`);
    const job: Job = { queue, request, log, settle: discard };
    const leave = (): void => {
      job.settle(cancelled);
      job.settle = discard;
      if (queue.jobs.delete(job)) {
        this.next(queue);
      }
    };
    signal?.addEventListener('abort', leave, { once: true });
    const answer = new Promise<Answer>((resolve, reject) => {
      job.settle = (outcome) => {
        if (outcome instanceof SystemError) {
          reject(outcome);
        } else {
          resolve(outcome);
        }
      };
    });
    queue.jobs.add(job);
    this.next(queue);
    return answer.finally(() => signal?.removeEventListener('abort', leave));
  }

  /** A zone has another request, or one less. */
  private next(queue: ZoneQueue): void {
    if (queue.running === null && queue.jobs.size > 0) {
      this.waiting.add(queue);
    } else if (queue.running === null) {
      this.waiting.delete(queue);
      this.zones.delete(queue.root);
    }
    this.pump();
  }

  /** Gives what waits to processes. */
  private pump(): void {
    for (const queue of this.waiting) {
      const [job] = queue.jobs;
      assert(job !== undefined && queue.running === null, 'a zone has one request under way');
      const process = this.idle();
      if (process === null) {
        return;
      }
      this.waiting.delete(queue);
      queue.jobs.delete(job);
      queue.running = job;
      process.job = job;
      process.since = performance.now();
      process.timer = setTimeout(() => {
        process.hung = true;
        process.timer = setTimeout(() => {
          queue.hangs = true;
          job.log?.warn({}, 'the file system below the zone root does not answer');
        }, NOT_ANSWERING_MS - HUNG_MS).unref();
        this.pump();
      }, HUNG_MS).unref();
      process.helper.send(job.request);
    }
  }

  /** A process that has nothing to do, or a new one; null where there are enough. */
  private idle(): Process | null {
    const processes = [...this.processes];
    const unused = processes.find(({ job }) => job === null);
    const working = processes.filter(({ hung }) => !hung).length;
    if (unused !== undefined) {
      return unused;
    }
    if (working >= MAX_WORKING || processes.length >= MAX_PROCESSES) {
      return null;
    }
    const helper = startHelper(
      [this.program, this.node],
      (message, socket) => this.onMessage(started, message, socket),
      (err) => {
        this.processes.delete(started);
        this.finish(started, err);
      },
    );
    const started: Process = { helper, job: null, since: 0, hung: false, timer: undefined };
    this.processes.add(started);
    return started;
  }

  private onMessage(process: Process, message: unknown, socket: Socket | null): void {
    socket?.pause();
    // Until it has an owner: what is wrong with it shows by its end.
    socket?.on('error', () => undefined);
    let outcome: Answer | SystemError;
    try {
      outcome = { reply: readReply(message), socket };
    } catch (err) {
      // Our own program's fault, which is not to cost the zone's other requests.
      socket?.destroy();
      outcome = systemError('zone_root', process.job?.queue.root ?? '', err);
    }
    this.finish(process, outcome);
    if ([...this.processes].filter(({ job }) => job === null).length > MAX_IDLE) {
      this.letGo(process);
    }
  }

  /** The process has nothing to do any more. */
  private finish(process: Process, outcome: Answer | SystemError): void {
    const { job } = process;
    clearTimeout(process.timer);
    process.hung = false;
    process.job = null;
    if (job === null) {
      discard(outcome);
      return;
    }
    const { queue, log } = job;
    if (queue.hangs) {
      queue.hangs = false;
      const after_ms = Math.round(performance.now() - process.since);
      log?.info({ after_ms }, 'the file system below the zone root answers again');
    }
    queue.running = null;
    job.settle(outcome);
    this.next(queue);
  }

  private letGo(process: Process): void {
    clearTimeout(process.timer);
    process.job = null;
    this.processes.delete(process);
    process.helper.close();
  }
}

/** One zone's root. Every method may take as long as the zone's file systems like. */
export class ZoneRoot {
  readonly #path: string;

  /** Made by ZoneRoots. */
  constructor(
    path: string,
    private readonly roots: ZoneRoots,
    private readonly log: RootLog | null,
  ) {
    this.#path = path;
  }

  /** False while a request has been under way for more than a second. */
  get answers(): boolean {
    return !this.roots.hangs(this.#path);
  }

  /** This machine's path of what is inside, as records and the mount table have it. Never to be opened. */
  nameOf(inside: string): string {
    return join(this.#path, inside);
  }

  /**
   * The identity of a port's file: the same twice is the same file. Rejects with a SystemError: ENOENT when it is
   * not there (yet), ELOOP for a symbolic link, ENOTDIR, ENOTSOCK; ECANCELED by the signal.
   */
  async find(port: string, signal?: AbortSignal): Promise<string> {
    return (await this.#ask('find', port, '', signal)).reply.identity;
  }

  /**
   * Finds a port and connects to it. Rejects as `find`, or with the error of connect.
   * @param found is called with the identity of the file that was found, whether somebody listens at it or not
   * @returns a paused socket
   */
  async dial(
    port: string,
    found: (identity: string) => void,
    signal?: AbortSignal,
  ): Promise<Socket> {
    const { socket } = await this.#ask('dial', port, '', signal, found);
    if (socket === null) {
      throw new SystemError('connect', this.nameOf(port), 'EMFILE', 'the descriptor was lost');
    }
    return socket;
  }

  /** Which directory is at a path, no component of which is a link: `<device>/<inode>`. Rejects as `find`. */
  async directoryAt(path: string, signal: AbortSignal): Promise<string> {
    const { dev, ino } = (await this.#ask('stat', path, '', signal)).reply;
    return `${dev}/${ino}`;
  }

  /**
   * Mounts a directory of the global zone read-only at a path inside, which is made where it is missing. No
   * process of the zone may run. Rejects with ESTALE where the mount is there, but not in its place.
   */
  async mount(special: string, path: string): Promise<void> {
    await this.#ask('mount', path, special);
  }

  /**
   * Rejects with EBUSY while somebody has a file of it open: a lofs cannot be unmounted by force.
   * @param mountPoint as the mount table has it
   */
  async unmount(mountPoint: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#ask('unmount', mountPoint, '', signal);
    } catch (err) {
      if (!(err instanceof SystemError)) {
        throw err;
      }
      const detail = err.code === 'EBUSY' ? 'somebody has a file of it open' : '';
      throw new SystemError(err.call, mountPoint, err.code, detail);
    }
  }

  async #ask(
    command: string,
    path: string,
    special = '',
    signal?: AbortSignal,
    found?: (identity: string) => void,
  ): Promise<Answer> {
    const fields = [command, path, special] as const;
    const answer = await this.roots.ask(this.#path, this.log, fields, signal);
    const { err, call, depth, identity } = answer.reply;
    if (identity !== '') {
      found?.(identity);
    }
    if (err !== 0) {
      const names = path.split('/').filter((name) => name !== '');
      const at = join(this.#path, ...names.slice(0, depth));
      const code = errnoName(err);
      throw new SystemError(call, at, code, DETAILS[code] ?? '');
    }
    return answer;
  }
}

const DETAILS: Readonly<Record<string, string>> = {
  ELOOP: 'a symbolic link inside a zone is not followed',
  ENOTSOCK: 'not a socket',
  ENOTDIR: 'not a directory',
  ESTALE: 'it was replaced meanwhile',
  ETIMEDOUT: 'the file system took too long',
};
