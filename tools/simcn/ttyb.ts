/*
 * A guest's second serial port, as bhyve and qemu provide it: the hypervisor's side and the guest's.
 *
 * simcn makes one for each HVM zone that it boots; tests make them directly. The host end is a unix
 * socket at `path` (`<zonepath>/root/tmp/vm.ttyb`), the guest end is `guest`. What is kept true to the
 * platform:
 *
 *   bhyve  removes an old file, binds, listens. One client; a further one is accepted and shut at
 *          once. A guest's reboot is a new process: close, unlink, bind again.
 *   kvm    one client; further ones connect and wait, with their bytes pending, until it leaves. A guest's reboot
 *          keeps the process and so the connection.
 *   both   bytes for a host that is not there, or does not read, are lost without a word. Opening
 *          the port in the guest throws away what the host sent and was not read. The socket file
 *          stays behind when the process ends.
 *
 * The loss rules live in GuestPort, the guest's side: its `write` sends bytes to the host, its event `data`
 * brings the host's. The port's speed is not simulated, and nothing here knows the metadata protocol.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdir, rename, rm } from 'node:fs/promises';
import { createServer, type Server, Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { PROJECT } from './zoneroot';

export type TtybKind = 'bhyve' | 'kvm';

/**
 * - `drop`: of so many bytes that the guest writes, one is lost (0: none).
 * - `held`: 1: another program has the port, so the agent meets what a second client meets; 0: it left.
 * - `flap`: the guest restarts so many times, 100 ms apart; resolves after the last one.
 */
export type TtybFault = 'drop' | 'held' | 'flap';

export interface TtybOptions {
  /** Host path of the socket. Its directory is made when it is not there. */
  readonly path: string;
  readonly kind: TtybKind;
  /**
   * A unix socket for real client programs in the "guest": connecting to it is opening the port (what
   * was unread is thrown away), and its bytes are the port's. Left out: only the `guest` object.
   */
  readonly guestPath?: string;
  /**
   * Host path of the zone's root: a process of the zone listens, and its death is the hypervisor's. Left out:
   * this process does, which is of the global zone.
   */
  readonly zoneroot?: string;
}

const ZPORT = join(PROJECT, 'native', 'build', 'Release', 'zport');

/** Pause between two restarts of a flapping guest: quicker than any real firmware. */
const FLAP_INTERVAL_MS = 100;

/** Somebody listens. */
interface Listening {
  close(): Promise<void>;
}

/** The hypervisor's end of one guest's port. */
export class Ttyb {
  readonly guest = new GuestPort();
  /** How many hosts have connected so far, those rejected included. */
  connects = 0;
  /** Host path of the socket. */
  readonly path: string;
  private readonly kind: TtybKind;
  private readonly guestPath: string | undefined;
  private readonly zoneroot: string | undefined;
  private server: Listening | null = null;
  private programs: Listening | null = null;
  /** Clients of the port, the first of which is served; more than one only under kvm. */
  private hosts: Socket[] = [];
  private held = false;

  constructor(options: TtybOptions) {
    this.path = options.path;
    this.kind = options.kind;
    this.guestPath = options.guestPath;
    this.zoneroot = options.zoneroot;
  }

  /** True while a host is connected and served. */
  get connected(): boolean {
    return this.guest.attached;
  }

  /** The hypervisor process starts. Resolves when it listens; rejects as bind does. */
  async start(): Promise<void> {
    if (this.server !== null) {
      return;
    }
    await mkdir(dirname(this.path), { recursive: true });
    await rm(this.path, { force: true });
    const accept = (host: Socket): void => this.accept(host);
    this.server =
      this.zoneroot === undefined
        ? await listen(this.path, accept)
        : await listenInZone(this.zoneroot, this.path, accept);
    if (this.guestPath !== undefined && this.programs === null) {
      await rm(this.guestPath, { force: true });
      this.programs = await listen(this.guestPath, (program) => this.guest.open(program));
    }
  }

  /** The hypervisor process ends: the socket file stays, as on the platform. Idempotent. */
  async stop(): Promise<void> {
    this.guest.closePrograms();
    await this.programs?.close();
    this.programs = null;
    if (this.guestPath !== undefined) {
      await rm(this.guestPath, { force: true });
    }
    await this.endProcess();
  }

  /** The guest reboots. Resolves when the port can be connected to again. */
  async reboot(): Promise<void> {
    if (this.kind === 'kvm' || this.server === null) {
      this.guest.discardUnread();
      return;
    }
    await this.endProcess();
    await this.start();
  }

  /** Sets, changes or (value 0) ends a fault. */
  async fault(name: TtybFault, value: number): Promise<void> {
    switch (name) {
      case 'drop':
        this.guest.dropOneIn = value;
        return;
      case 'held':
        this.hold(value > 0);
        return;
      case 'flap':
        for (let i = 0; i < value; i++) {
          await this.endProcess();
          await this.start();
          await delay(FLAP_INTERVAL_MS);
        }
        return;
      default:
        throw new Error(`no such ttyb fault: ${String(name satisfies never)}`);
    }
  }

  private async endProcess(): Promise<void> {
    const server = this.server;
    this.server = null;
    for (const host of this.hosts) {
      host.destroy();
    }
    await server?.close();
  }

  private accept(host: Socket): void {
    this.connects++;
    const isBusy = this.held || this.hosts.length > 0;
    if (isBusy && this.kind === 'bhyve') {
      host.destroy();
      return;
    }
    this.hosts.push(host);
    // A host that vanishes is met by `close`; the guest learns nothing, as from a real port.
    host.on('error', () => undefined);
    host.once('close', () => {
      this.hosts = this.hosts.filter((other) => other !== host);
      this.guest.detach(host);
      this.serveFirst();
    });
    this.serveFirst();
  }

  private hold(held: boolean): void {
    this.held = held;
    if (held) {
      for (const host of this.hosts) {
        host.destroy();
      }
    }
    this.serveFirst();
  }

  private serveFirst(): void {
    const first = this.hosts[0];
    if (first !== undefined && !this.held) {
      this.guest.attach(first);
    }
  }
}

/**
 * Listens at `path`. The socket is bound under another name: a server's close removes the name that it
 * was bound to, and a hypervisor that dies leaves its file behind.
 */
async function listen(path: string, accept: (socket: Socket) => void): Promise<Listening> {
  const server = createServer({ pauseOnConnect: true }, accept);
  const bound = join(dirname(path), '.b');
  await rm(bound, { force: true });
  server.listen(bound, 1);
  await once(server, 'listening');
  await rename(bound, path);
  return { close: () => closeServer(server) };
}

async function closeServer(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.close(() => resolve()));
}

/** Listens by a process of the zone. @throws Error when that cannot */
async function listenInZone(
  zoneroot: string,
  path: string,
  accept: (socket: Socket) => void,
): Promise<Listening> {
  const child: ChildProcess = spawn(ZPORT, [zoneroot, path], {
    stdio: ['pipe', 'ignore', 'inherit', 'ipc'],
    env: {},
  });
  const gone = once(child, 'disconnect');
  await Promise.race([once(child, 'message'), gone.then(() => Promise.reject(new Error(ZPORT)))]);
  child.on('message', (_message, handle) => {
    if (handle instanceof Socket) {
      handle.pause();
      accept(handle);
    }
  });
  return {
    close: async () => {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** Bytes of the host kept for a guest that does not read: about what a socket buffer holds. */
const UNREAD_LIMIT_BYTES = 256 * 1024;

/**
 * Events: `data` (Buffer) bytes of the host; `attached` a host connected; `detached` it left.
 * Bytes wait, unread, as long as `data` has no listener and no program has the port open.
 */
export class GuestPort extends EventEmitter {
  /** Bytes that the guest wrote and no host got. */
  lost = 0;
  /** Bytes of the host that opening the port threw away. */
  discarded = 0;
  /** Bytes of the host that wait for the guest to read. */
  unreadBytes = 0;
  /** Of so many written bytes one is lost; 0: none. */
  dropOneIn = 0;
  private host: Socket | null = null;
  private unread: Buffer[] = [];
  private programs: Socket[] = [];
  private written = 0;

  constructor() {
    super();
    this.on('newListener', (event: string) => {
      if (event === 'data') {
        // The listener is there only after this event.
        queueMicrotask(() => this.deliver());
      }
    });
  }

  get attached(): boolean {
    return this.host !== null;
  }

  /** Sends bytes to the host, without waiting and without a promise that they arrive. */
  write(bytes: Buffer | string): void {
    const whole = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    const kept = this.dropOneIn > 0 ? this.thin(whole) : whole;
    // A backlog means that the kernel's buffer is full: bhyve ignores the failed write.
    if (this.host === null || this.host.writableLength > 0) {
      this.lost += kept.length;
      return;
    }
    this.host.write(kept);
  }

  /** A program opens the port: the FIFO is reset, which takes all unread bytes with it. */
  open(program?: Socket): void {
    this.discardUnread();
    if (program === undefined) {
      return;
    }
    this.programs.push(program);
    program.on('data', (bytes: Buffer) => this.write(bytes));
    // A program that was killed is met by `close`.
    program.on('error', () => undefined);
    program.once('close', () => {
      this.programs = this.programs.filter((other) => other !== program);
    });
    program.resume();
  }

  discardUnread(): void {
    this.discarded += this.unreadBytes;
    this.unread = [];
    this.unreadBytes = 0;
    this.host?.resume();
  }

  /** For Ttyb: the hypervisor ends, and with it every program in the guest. */
  closePrograms(): void {
    for (const program of this.programs) {
      program.destroy();
    }
  }

  /** For Ttyb: serves this host from now on. Attaching the one that is attached does nothing. */
  attach(host: Socket): void {
    if (this.host === host) {
      return;
    }
    this.host = host;
    host.on('data', (bytes: Buffer) => {
      this.unread.push(bytes);
      this.unreadBytes += bytes.length;
      this.deliver();
      if (this.unreadBytes > UNREAD_LIMIT_BYTES) {
        host.pause();
      }
    });
    host.resume();
    this.emit('attached');
  }

  /** For Ttyb: this host is gone. */
  detach(host: Socket): void {
    if (this.host === host) {
      this.host = null;
      this.unread = [];
      this.unreadBytes = 0;
      this.emit('detached');
    }
  }

  /** Who reads a shared tty first gets the bytes: here always the program that opened it first. */
  private deliver(): void {
    const reader = this.programs[0];
    if (reader === undefined && this.listenerCount('data') === 0) {
      return;
    }
    const bytes = this.unread;
    this.unread = [];
    this.unreadBytes = 0;
    for (const chunk of bytes) {
      if (reader !== undefined) {
        reader.write(chunk);
      } else {
        this.emit('data', chunk);
      }
    }
    if (this.host?.isPaused() === true) {
      this.host.resume();
    }
  }

  private thin(bytes: Buffer): Buffer {
    const kept = bytes.filter(() => ++this.written % this.dropOneIn !== 0);
    this.lost += bytes.length - kept.length;
    return Buffer.from(kept);
  }
}
