/*
 * What lies below zones' roots: the one place that goes there, and it never does so by itself.
 *
 * A zone's root is the zone's to arrange. A guest can put a link there that leads to another zone, or mount
 * a file system that never answers; who names a path below it may then be held in the kernel for ever. So
 * neither the main thread nor libuv's pool does. Processes of their own do (native/zone_root.c), one request
 * at a time each:
 *
 *   find, dial, stat, mount --> queue of the zone --> a process that is idle, or another one --> reply
 *
 * What always holds: a zone has one request under way at most, and it is never given up for another: what
 * hangs holds one process of some 200 KiB until its file system answers or the process is gone. A process
 * that has not answered for HUNG_MS no longer counts as one that is working, so zones that hang take
 * nothing from the others but memory. The agent waits for none of them when it ends.
 *
 * Elsewhere a zone's root is a ZoneRoot, not a path: it cannot be opened.
 */
import assert from 'node:assert';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { errnoName, SystemError } from '../lib/errors';
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

/** Which directory it is, whatever its name. */
export interface DirectoryIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** What came of a dial. The file is known, where there was one, whether anybody accepted the connection or not. */
export interface Dialled {
  /** '' where there is no port. */
  readonly identity: string;
  /** Paused; whoever takes it lets it flow. */
  readonly outcome: Socket | SystemError;
}

/** Called for a zone whose file system hangs, and when it answers again. */
export interface RootObserver {
  notAnswering(): void;
  answersAgain(afterMs: number): void;
}

type Fields = readonly [command: string, path: string, special: string];

interface Reply {
  readonly err: number;
  readonly call: string;
  readonly depth: number;
  readonly identity: string;
  readonly dev: string;
  readonly ino: string;
}

interface Job {
  readonly root: string;
  readonly request: Buffer;
  readonly observer: RootObserver | null;
  /** The requester has left: what comes is thrown away. */
  given: boolean;
  done(reply: Reply, socket: Socket | null): void;
  failed(err: SystemError): void;
}

/** The requests of one zone; there is one exactly while the zone has some. */
interface ZoneQueue {
  readonly jobs: Job[];
  running: Job | null;
  /** Infinity while nothing runs. */
  runningSince: number;
  /** The observer knows that the running one hangs. */
  reported: boolean;
}

interface Process {
  readonly helper: Helper;
  job: Job | null;
  hung: boolean;
  timer: NodeJS.Timeout | null;
}

/** All zones' roots of a node; one serves the agent. Processes are started when they are needed. */
export class ZoneRoots {
  /** By the zone's root: a zone that comes back under its path waits for what hangs of the one before. */
  private readonly zones = new Map<string, ZoneQueue>();
  /** Of these the first request waits for a process. */
  private readonly waiting = new Set<ZoneQueue>();
  private readonly processes = new Set<Process>();
  private stopping: Promise<void> | null = null;
  private gone: () => void = () => undefined;

  /** @param node root of the node, as for `openPlatform` */
  constructor(
    private readonly node: string,
    private readonly program = PROGRAM,
  ) {}

  /** @param zonepath this machine's path of the zone's own directory, which belongs to the global zone */
  of(zonepath: string, observer: RootObserver | null = null): ZoneRoot {
    const path = `${zonepath}/root`;
    return new ZoneRoot(path, {
      ask: (fields, signal) => this.ask(path, fields, observer, signal),
      hangs: () => hangs(this.zones.get(path)),
    });
  }

  /** Zones that hang, and the processes that there are. */
  get status(): { readonly notAnswering: number; readonly processes: number } {
    const notAnswering = [...this.zones.values()].filter(hangs).length;
    return { notAnswering, processes: this.processes.size };
  }

  /** Lets every process go. Resolves when all but those that hang are gone; they go when they can. */
  stop(): Promise<void> {
    if (this.stopping !== null) {
      return this.stopping;
    }
    this.stopping = new Promise((resolve) => (this.gone = resolve));
    for (const { jobs, running } of this.zones.values()) {
      for (const job of [...(running === null ? [] : [running]), ...jobs.splice(0)]) {
        job.given = false;
        job.failed(new SystemError('zone_root', job.root, 'ECANCELED'));
      }
    }
    this.waiting.clear();
    for (const { helper } of this.processes) {
      helper.close();
    }
    this.resolveGone();
    return this.stopping;
  }

  private ask(
    root: string,
    fields: Fields,
    observer: RootObserver | null,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    const [command, path, special] = fields;
    const subject = join(root, path);
    const parts = [command, root, path, special];
    if (parts.some((part) => part.includes('\0') || Buffer.byteLength(part) >= FIELD_BYTES)) {
      return Promise.reject(new SystemError(command, subject, 'EINVAL', 'not a path'));
    }
    const cancelled = (): SystemError => new SystemError(command, subject, 'ECANCELED');
    if (this.stopping !== null || signal?.aborted === true) {
      return Promise.reject(cancelled());
    }
    const idle = { jobs: [], running: null, runningSince: Infinity, reported: false };
    const zone: ZoneQueue = this.zones.get(root) ?? idle;
    this.zones.set(root, zone);
    let leave = (): void => undefined;
    const answer = new Promise<Answer>((resolve, reject) => {
      const job: Job = {
        root,
        request: Buffer.from(`${parts.join('\0')}\0`),
        observer,
        given: true,
        done: (reply, socket) => {
          if (job.given) {
            resolve({ reply, socket });
          } else {
            socket?.destroy();
          }
        },
        failed: reject,
      };
      leave = () => {
        job.given = false;
        const at = zone.jobs.indexOf(job);
        if (at >= 0) {
          zone.jobs.splice(at, 1);
          this.pump(root);
        }
        reject(cancelled());
      };
      signal?.addEventListener('abort', leave, { once: true });
      zone.jobs.push(job);
    });
    this.pump(root);
    return answer.finally(() => signal?.removeEventListener('abort', leave));
  }

  /** Gives what waits to processes. @param root of a zone with which something happened */
  private pump(root?: string): void {
    const zone = root === undefined ? undefined : this.zones.get(root);
    if (root !== undefined && zone?.running === null) {
      if (zone.jobs.length > 0) {
        this.waiting.add(zone);
      } else {
        this.waiting.delete(zone);
        this.zones.delete(root);
      }
    }
    for (const next of this.waiting) {
      const process = this.idle();
      if (process === null) {
        return;
      }
      this.waiting.delete(next);
      this.begin(process, next);
    }
  }

  private begin(process: Process, zone: ZoneQueue): void {
    const job = zone.jobs.shift();
    assert(job !== undefined && zone.running === null, 'a zone has one request under way');
    zone.running = job;
    zone.runningSince = performance.now();
    process.job = job;
    process.timer = setTimeout(() => {
      process.hung = true;
      process.timer = setTimeout(() => {
        zone.reported = true;
        job.observer?.notAnswering();
      }, NOT_ANSWERING_MS - HUNG_MS).unref();
      this.resolveGone();
      this.pump();
    }, HUNG_MS).unref();
    process.helper.send(job.request);
  }

  /** A process that has nothing to do, or a new one; null where there are enough. */
  private idle(): Process | null {
    let working = 0;
    for (const process of this.processes) {
      if (process.job === null) {
        return process;
      }
      working += process.hung ? 0 : 1;
    }
    const full = working >= MAX_WORKING || this.processes.size >= MAX_PROCESSES;
    if (full || this.stopping !== null) {
      return null;
    }
    const helper = startHelper([this.program, this.node], {
      message: (message, socket) => this.onMessage(started, message, socket),
      ended: (err) => {
        const job = this.settle(started);
        this.processes.delete(started);
        job?.failed(err);
        this.pump(job?.root);
        this.resolveGone();
      },
    });
    const started: Process = { helper, job: null, hung: false, timer: null };
    this.processes.add(started);
    return started;
  }

  private onMessage(process: Process, message: unknown, socket: Socket | null): void {
    socket?.pause();
    // Until it has an owner: what is wrong with it shows by its end.
    socket?.on('error', () => undefined);
    const job = this.settle(process);
    if (job === null) {
      socket?.destroy();
      return;
    }
    this.pump(job.root);
    const idle = [...this.processes].filter((other) => other.job === null).length;
    if (process.job === null && idle > MAX_IDLE) {
      // Still counted until it is gone, and given nothing: it is busy with its end.
      process.job = job;
      process.helper.close();
    }
    job.done(parseReply(message), socket);
  }

  /** The process has nothing to do any more. @returns what it did */
  private settle(process: Process): Job | null {
    const { job } = process;
    clearTimeout(process.timer ?? undefined);
    process.timer = null;
    process.hung = false;
    process.job = null;
    const zone = job === null ? undefined : this.zones.get(job.root);
    if (job === null || zone?.running !== job) {
      return null;
    }
    if (zone.reported) {
      zone.reported = false;
      job.observer?.answersAgain(Math.round(performance.now() - zone.runningSince));
    }
    zone.running = null;
    zone.runningSince = Infinity;
    return job;
  }

  private resolveGone(): void {
    if (this.stopping !== null && [...this.processes].every(({ hung }) => hung)) {
      this.gone();
    }
  }
}

interface Answer {
  readonly reply: Reply;
  readonly socket: Socket | null;
}

/** What a zone's root is reached by. */
interface Below {
  ask(fields: Fields, signal?: AbortSignal): Promise<Answer>;
  hangs(): boolean;
}

/** One zone's root. Every method may take as long as the zone's file systems like: bound it by a signal. */
export class ZoneRoot {
  readonly #path: string;
  readonly #below: Below;

  /** Made by ZoneRoots. */
  constructor(path: string, below: Below) {
    this.#path = path;
    this.#below = below;
  }

  /** False while a request has been under way for more than a second. */
  get answers(): boolean {
    return !this.#below.hangs();
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
    const { reply } = await this.#below.ask(['find', port, ''], signal);
    this.#check(reply, port);
    return reply.identity;
  }

  /** Finds a port and connects to it. As `find`, but a failure is in the value. */
  async dial(port: string, signal?: AbortSignal): Promise<Dialled> {
    const { reply, socket } = await this.#below.ask(['dial', port, ''], signal);
    const lost = new SystemError('connect', this.nameOf(port), 'EMFILE', 'the descriptor was lost');
    return { identity: reply.identity, outcome: this.#faultOf(reply, port) ?? socket ?? lost };
  }

  /** The directory at a path, no component of which is a link; null: nothing is there. */
  async directoryAt(path: string, signal?: AbortSignal): Promise<DirectoryIdentity | null> {
    const { reply } = await this.#below.ask(['stat', path, ''], signal);
    if (reply.err !== 0 && errnoName(reply.err) === 'ENOENT') {
      return null;
    }
    this.#check(reply, path);
    return { dev: BigInt(reply.dev), ino: BigInt(reply.ino) };
  }

  /**
   * Mounts a directory of the global zone read-only at a path inside, which is made where it is missing. No
   * process of the zone may run. Rejects with ESTALE where the mount is there, but not in its place.
   */
  async mount(special: string, path: string, signal?: AbortSignal): Promise<void> {
    const { reply } = await this.#below.ask(['mount', path, special], signal);
    this.#check(reply, path);
  }

  /** @param mountPoint as the mount table has it */
  async unmount(mountPoint: string, signal?: AbortSignal): Promise<void> {
    const { reply } = await this.#below.ask(['unmount', mountPoint, ''], signal);
    this.#check(reply, '');
  }

  #check(reply: Reply, path: string): void {
    const fault = this.#faultOf(reply, path);
    if (fault !== null) {
      throw fault;
    }
  }

  #faultOf(reply: Reply, path: string): SystemError | null {
    if (reply.err === 0) {
      return null;
    }
    const names = path.split('/').filter((name) => name !== '');
    const at = join(this.#path, ...names.slice(0, reply.depth));
    const code = errnoName(reply.err);
    return new SystemError(reply.call, at, code, DETAILS[code] ?? '');
  }
}

const DETAILS: Readonly<Record<string, string>> = {
  ELOOP: 'a symbolic link inside a zone is not followed',
  ENOTSOCK: 'not a socket',
  ENOTDIR: 'not a directory',
  ESTALE: 'it was replaced meanwhile',
  ETIMEDOUT: 'the file system took too long',
};

function hangs(zone: ZoneQueue | undefined): boolean {
  return performance.now() - (zone?.runningSince ?? Infinity) >= NOT_ANSWERING_MS;
}

function parseReply(message: unknown): Reply {
  const given: Readonly<Record<string, unknown>> =
    typeof message === 'object' && message !== null ? { ...message } : {};
  const text = (name: string): string => (typeof given[name] === 'string' ? given[name] : '');
  const number = (name: string, otherwise: number): number =>
    typeof given[name] === 'number' ? given[name] : otherwise;
  return {
    // A reply that says nothing is our own program's fault: it is reported as one.
    err: number('err', 5),
    call: text('call'),
    depth: number('depth', 0),
    identity: text('identity'),
    dev: text('dev'),
    ino: text('ino'),
  };
}
