/*
 * What runs in an HVM zone: the process that owns the guest's serial ports.
 *
 * Two kinds exist. A simulated one has no guest at all, only the metadata port, with the losses and the
 * reconnects of the platform's (ttyb.ts). A real one is QEMU with a kernel or a disk in it.
 *
 * QEMU's command line is the platform's in what matters here: `server,nowait` on vm.ttyb as the second
 * port, and no -no-reboot, so that a guest's reboot keeps the process and the connection. It runs without
 * a network, and in software. The process is ended by its id only; one that outlived a killed node is
 * found by its pid file.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { codeOf, SystemError } from '../../src/lib/errors';
import type { JsonObject } from '../../src/metadata/vm-data';
import { Ttyb, type TtybFault, type TtybKind } from './ttyb';
import type { RealGuest } from './store';

export interface Hypervisor {
  /** Of the process, where there is one. */
  readonly pid: number | null;
  start(): Promise<void>;
  /** Idempotent. Resolves when the process is gone. */
  stop(): Promise<void>;
  /** The guest reboots of its own accord. */
  guestReboot(): Promise<void>;
  fault(name: TtybFault, value: number): Promise<void>;
}

const DEFAULT_PORT = '/tmp/vm.ttyb';
/** Below the zone's root: the platform's name for the first port's socket. */
export const CONSOLE = '/tmp/vm.console';

/**
 * The host path of the serial port of a VM; null where its com2 is something else than a socket, and
 * so no metadata channel.
 */
export function portPath(zoneroot: string, properties: JsonObject): string | null {
  const com2 = properties.com2;
  if (com2 === undefined) {
    return `${zoneroot}${DEFAULT_PORT}`;
  }
  const path = typeof com2 === 'string' ? /^socket,(\/[^,]+)$/.exec(com2)?.[1] : undefined;
  return path === undefined || path.split('/').includes('..') ? null : `${zoneroot}${path}`;
}

/** One zone's hypervisor without a guest, from boot to halt. */
export class SimulatedHypervisor implements Hypervisor {
  readonly pid = null;
  private readonly ttyb: Ttyb | null;

  /** @param path of the port; null: none. @param guestPath the guest's end, for client programs; @param zoneroot where it runs */
  constructor(kind: TtybKind, path: string | null, guestPath: string, zoneroot: string) {
    this.ttyb = path === null ? null : new Ttyb({ path, kind, guestPath, zoneroot });
  }

  async start(): Promise<void> {
    await this.ttyb?.start();
  }

  async stop(): Promise<void> {
    await this.ttyb?.stop();
  }

  async guestReboot(): Promise<void> {
    await this.ttyb?.reboot();
  }

  async fault(name: TtybFault, value: number): Promise<void> {
    await this.ttyb?.fault(name, value);
  }
}

const QEMU = 'qemu-system-x86_64';
/** Guests' tools know the platform by this product. */
const SMBIOS = 'type=1,manufacturer=Joyent,product=SmartDC HVM';
/** qemu makes its sockets before the guest's first instruction: this is for a slow machine. */
const START_TIMEOUT_MS = 20_000;
const POLL_MS = 20;
/** Kept of what qemu says on stderr, characters. */
const STDERR_CHARS = 2048;

export interface QemuPlace {
  /** Host path of the second serial port. */
  readonly port: string;
  /** Host path of the console, the first serial port. */
  readonly console: string;
  /** The zone's own copy of the guest's disk, where it has one. */
  readonly disk: string;
  /** bhyve: a guest's reboot is a new process. */
  readonly restarts: boolean;
  /** Directory of console.log, qemu.pid and the monitor's socket. */
  readonly logs: string;
  readonly name: string;
  /** Host path of the zone's root: qemu stands there, which makes it one of the zone's processes. */
  readonly zoneroot: string;
}

/** One QEMU process with its guest. */
export class Qemu implements Hypervisor {
  private readonly guest: RealGuest;
  private readonly place: QemuPlace;
  private readonly onExit: () => void;
  private child: ChildProcess | null = null;
  private stderr = '';

  /** @param onExit called when qemu ended by itself: the guest powered off */
  constructor(guest: RealGuest, place: QemuPlace, onExit: () => void) {
    this.guest = guest;
    this.place = place;
    this.onExit = onExit;
  }

  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  /** Resolves when the port listens. */
  async start(): Promise<void> {
    await mkdir(dirname(this.place.port), { recursive: true });
    await mkdir(this.place.logs, { recursive: true });
    await mkdir(dirname(this.place.console), { recursive: true });
    await rm(this.place.port, { force: true });
    await rm(this.place.console, { force: true });
    const child = spawn(QEMU, this.argv(), {
      stdio: ['ignore', 'ignore', 'pipe'],
      cwd: this.place.zoneroot,
    });
    this.child = child;
    this.stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-STDERR_CHARS);
    });
    // Without a pid it never ran; with one, `exit` tells.
    child.once('error', (err) => (this.stderr = err.message));
    child.once('exit', () => {
      if (this.child === child) {
        this.child = null;
        this.onExit();
      }
    });
    await this.listening(child);
  }

  async stop(): Promise<void> {
    const child = this.child;
    this.child = null;
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await rm(pidFile(this.place.logs), { force: true });
    await rm(this.monitor, { force: true });
  }

  /** Presses the machine's reset: qemu stays, the guest's kernel starts anew. bhyve is executed again. */
  async guestReboot(): Promise<void> {
    if (this.place.restarts) {
      await this.stop();
      await this.start();
      return;
    }
    const monitor = connect(this.monitor);
    await once(monitor, 'connect');
    monitor.end('system_reset\n');
    monitor.resume();
    await once(monitor, 'close');
  }

  /** A real port cannot be made to fail; to end faults (value 0) it never has is no error. */
  fault(name: TtybFault, value: number): Promise<void> {
    return value === 0
      ? Promise.resolve()
      : Promise.reject(new Error(`ttyb.${name} needs a simulated guest, not a real one`));
  }

  private get monitor(): string {
    return join(this.place.logs, 'mon');
  }

  private argv(): string[] {
    const { guest, place } = this;
    const log = join(place.logs, 'console.log');
    const boot =
      'disk' in guest
        ? ['-drive', `file=${place.disk},format=${diskFormat(place.disk)},if=virtio`]
        : ['-kernel', guest.kernel, '-initrd', guest.initrd, '-append', guest.append];
    return [
      ...['-name', place.name, '-m', String(guest.memory), '-smp', '1'],
      // Never KVM: inside some containers /dev/kvm opens well and then runs no instruction.
      ...['-accel', 'tcg'],
      ...boot,
      ...['-nodefaults', '-display', 'none', '-nic', 'none'],
      ...['-smbios', SMBIOS],
      ...['-pidfile', pidFile(place.logs)],
      ...['-chardev', `socket,id=serial0,path=${place.console},server=on,wait=off,logfile=${log}`],
      ...['-device', 'isa-serial,chardev=serial0'],
      ...['-chardev', `socket,id=serial1,path=${place.port},server=on,wait=off`],
      ...['-device', 'isa-serial,chardev=serial1'],
      ...['-chardev', `socket,id=monitor,path=${this.monitor},server=on,wait=off`],
      ...['-mon', 'chardev=monitor,mode=readline'],
    ];
  }

  /** The monitor is ready after the serial port; connecting to it disturbs nothing. */
  private async listening(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (child.pid !== undefined && child.exitCode === null && Date.now() < deadline) {
      if (await answers(this.monitor)) {
        return;
      }
      await delay(POLL_MS);
    }
    this.child = null;
    // One that never ran has no process id: its signal would go to the process group of the node.
    if (child.pid !== undefined) {
      child.kill('SIGKILL');
    }
    throw new SystemError(QEMU, this.place.name, 'EXIT', this.stderr.trim() || 'did not start');
  }
}

/** By its first bytes: QEMU would guess too, and warn that it does. */
function diskFormat(path: string): 'qcow2' | 'raw' {
  const start = Buffer.alloc(4);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, start);
  } finally {
    closeSync(fd);
  }
  return start.equals(Buffer.from('QFI\xfb', 'latin1')) ? 'qcow2' : 'raw';
}

/** Ends a qemu that a killed node left behind. */
export function killStrayQemu(logs: string): void {
  try {
    const pid = Number(readFileSync(pidFile(logs), 'utf8'));
    // The number may belong to another process by now: only a process that names our directory is ours.
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(pidFile(logs))) {
      process.kill(pid, 'SIGKILL');
    }
  } catch (err) {
    if (!['ENOENT', 'ESRCH'].includes(codeOf(err))) {
      throw err;
    }
  }
}

function pidFile(logs: string): string {
  return join(logs, 'qemu.pid');
}

/**
 * Whether the monitor greets. qemu makes its sockets before it reads the kernel, and ends where it cannot; it
 * greets from its main loop, when the machine is there.
 */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.setTimeout(START_TIMEOUT_MS, () => socket.destroy());
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
    // Tells nothing more than the close that comes after it.
    socket.once('error', () => undefined);
    socket.once('close', () => resolve(false));
  });
}
