/*
 * What runs in an HVM zone: the process that has the guest's serial port.
 *
 * Two kinds exist. A simulated one has no guest at all, only the port, with its losses and its ways of
 * coming and going (ttyb.ts). A real one is qemu with a kernel in it (qemu.ts).
 */
import type { JsonObject } from '../../src/metadata/vm-data';
import { Ttyb, type TtybFault, type TtybKind } from './ttyb';

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
