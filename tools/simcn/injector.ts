/*
 * Injects the faults that need an action, and undoes them.
 *
 * The table (faults.ts) says which are in force; here is what a lock held by another process, a full disk and
 * a broken serial port take. Events and vmadm read the table themselves.
 *
 * A full disk, as root, is a tiny file system mounted over the config directory, with the directory's files
 * in it and the rest filled up: a real ENOSPC. An ordinary user may not mount: the directory becomes
 * unwritable instead, which is EACCES at the same calls, and a note says so.
 */
import {
  chmodSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { tryLock } from '../../src/platform/lock';
import { codeOf } from '../../src/lib/errors';
import { run } from '../../src/platform/exec';
import { ZoneDisk } from './disk';
import type { Fault } from './faults';
import type { Node } from './node';
import type { TtybFault } from './ttyb';
import type { VminfodService } from './vminfod';
import type { Zone } from './zone';

/** A lock that another process has is waited for this long. */
const LOCK_WAIT_MS = 5000;
const LOCK_POLL_MS = 10;
const DEFAULT_DROP_ONE_IN = 50;

interface HeldLock {
  readonly fd: number;
  readonly timer: NodeJS.Timeout | null;
}

/** Acts on what one table of faults says. */
export class Injector {
  private readonly node: Node;
  private readonly vminfod: VminfodService;
  private readonly locks = new Map<string, HeldLock>();
  private readonly disks = new Map<string, FullDisk>();

  constructor(node: Node, vminfod: VminfodService) {
    this.node = node;
    this.vminfod = vminfod;
  }

  /** @returns what the caller should know about it, '' for nothing */
  async inject(fault: Fault): Promise<string> {
    const note = await this.act(fault);
    this.node.machine.faults.set(fault);
    return note;
  }

  private async act(fault: Fault): Promise<string> {
    const { name, value, zonename } = fault;
    switch (name) {
      case 'events.drop':
      case 'events.delay':
      case 'events.late-free':
      case 'vmadm.hang':
      case 'vmadm.fail':
        return '';
      case 'vminfod.down':
        await this.vminfod.setDown(true);
        return '';
      case 'vminfod.freeze':
        for (const zone of this.affected(zonename)) {
          this.vminfod.setFrozen(zone, true);
        }
        return '';
      case 'vminfod.delay':
        this.vminfod.setDelay(value);
        return '';
      case 'vminfod.garbage':
        this.vminfod.sendGarbage();
        return '';
      case 'lock.held':
        await this.holdLock(this.zoneOf(fault), value);
        return '';
      case 'disk.full':
        return this.fillDisk(this.zoneOf(fault));
      case 'ttyb.drop':
        await this.breakPort(this.zoneOf(fault), 'drop', value === 0 ? DEFAULT_DROP_ONE_IN : value);
        return '';
      case 'ttyb.held':
        await this.breakPort(this.zoneOf(fault), 'held', 1);
        return '';
      case 'ttyb.flap':
        await this.breakPort(this.zoneOf(fault), 'flap', value);
        return '';
      default:
        throw new Error(`no such fault: ${String(name satisfies never)}`);
    }
  }

  /** Ends all faults. */
  async clear(): Promise<void> {
    this.node.machine.faults.clear();
    this.vminfod.setDelay(0);
    await this.vminfod.setDown(false);
    for (const zonename of this.affected(null)) {
      this.vminfod.setFrozen(zonename, false);
    }
    for (const zone of this.node.all()) {
      await this.release(zone);
      await zone.hypervisor?.fault('drop', 0);
      await zone.hypervisor?.fault('held', 0);
    }
  }

  /** Ends the faults that would be in the way of the zone's removal. */
  async release(zone: Zone): Promise<void> {
    const lock = this.locks.get(zone.zonename);
    if (lock !== undefined) {
      this.locks.delete(zone.zonename);
      clearTimeout(lock.timer ?? undefined);
      closeSync(lock.fd);
      this.node.machine.faults.unset('lock.held', zone.zonename);
    }
    const disk = this.disks.get(zone.zonename);
    if (disk !== undefined) {
      this.disks.delete(zone.zonename);
      await disk.release();
      this.node.machine.faults.unset('disk.full', zone.zonename);
      this.node.rewatch(zone);
    }
  }

  private affected(zonename: string | null): string[] {
    return zonename === null ? this.node.all().map((zone) => zone.zonename) : [zonename];
  }

  private zoneOf(fault: Fault): Zone {
    return this.node.find(fault.zonename ?? '');
  }

  /** Takes the lock as any other process would. @param ms 0: until it is cleared */
  private async holdLock(zone: Zone, ms: number): Promise<void> {
    if (this.locks.has(zone.zonename)) {
      throw new Error(`the lock of ${zone.zonename} is held already`);
    }
    const { paths } = this.node.machine;
    // This process opens the file here only: closing any other descriptor of it would drop the lock.
    const path = paths.vmConfigLock(zone.uuid);
    const deadline = Date.now() + LOCK_WAIT_MS;
    let fd = tryLock(path);
    while (fd === null) {
      if (Date.now() > deadline) {
        throw new Error(`the lock of ${zone.zonename} could not be had for ${LOCK_WAIT_MS} ms`);
      }
      await delay(LOCK_POLL_MS);
      fd = tryLock(path);
    }
    const timer = ms === 0 ? null : setTimeout(() => void this.release(zone), ms);
    this.locks.set(zone.zonename, { fd, timer });
  }

  private async fillDisk(zone: Zone): Promise<string> {
    if (this.disks.has(zone.zonename)) {
      throw new Error(`the disk of ${zone.zonename} is full already`);
    }
    const disk = new FullDisk(new ZoneDisk(this.node.machine.paths, zone).config);
    const note = await disk.fill();
    this.disks.set(zone.zonename, disk);
    this.node.rewatch(zone);
    return note;
  }

  private async breakPort(zone: Zone, name: TtybFault, value: number): Promise<void> {
    if (zone.hypervisor === null) {
      throw new Error(
        `zone ${zone.zonename} has no serial port (brand ${zone.brand.name}, ${zone.zoneState})`,
      );
    }
    await zone.hypervisor.fault(name, value);
  }
}

/** Added to the size of the directory's files: what the file system itself takes. */
const ROOM_BYTES = 64 * 1024;
const FILLER = '.full';
/** A directory that is in use is waited for this long. */
const BUSY_MS = 10_000;
const BUSY_POLL_MS = 20;
const FILLER_CHUNK = Buffer.alloc(4096);

type Trick = 'mounted' | 'unwritable';

/** Fills the config directory of one zone, and frees it again. */
export class FullDisk {
  private readonly directory: string;
  private trick: Trick | null = null;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** @returns what is different from a real full disk, '' for nothing */
  async fill(): Promise<string> {
    if (process.geteuid?.() !== 0) {
      chmodSync(this.directory, 0o555);
      this.trick = 'unwritable';
      return 'an ordinary user cannot fill a disk: writes fail with EACCES instead of ENOSPC';
    }
    const files = this.read();
    const bytes = [...files.values()].reduce((sum, content) => sum + content.length + 4096, 0);
    const options = `size=${ROOM_BYTES + bytes},mode=755`;
    await run(['mount', '-t', 'tmpfs', '-o', options, 'simcn-full', this.directory]);
    this.trick = 'mounted';
    this.write(files);
    this.fillUp();
    return '';
  }

  /** Makes room again. What was changed meanwhile (a rename needs no room) stays. */
  async release(): Promise<void> {
    const trick = this.trick;
    this.trick = null;
    if (trick === 'unwritable') {
      chmodSync(this.directory, 0o755);
    } else if (trick === 'mounted') {
      rmSync(join(this.directory, FILLER), { force: true });
      this.write(await this.unmount());
    }
  }

  /** Who has a file of the directory open makes it busy, for a moment. @returns the last files in it */
  private async unmount(): Promise<ReadonlyMap<string, Buffer>> {
    const end = performance.now() + BUSY_MS;
    for (;;) {
      const files = this.read();
      try {
        await run(['umount', this.directory]);
        return files;
      } catch (err) {
        if (codeOf(err) !== 'EXIT_32' || performance.now() > end) {
          throw err;
        }
        await delay(BUSY_POLL_MS);
      }
    }
  }

  private read(): Map<string, Buffer> {
    const names = readdirSync(this.directory, { withFileTypes: true }).filter((e) => e.isFile());
    return new Map(names.map(({ name }) => [name, readFileSync(join(this.directory, name))]));
  }

  private write(files: ReadonlyMap<string, Buffer>): void {
    for (const [name, content] of files) {
      writeFileSync(join(this.directory, name), content, { mode: 0o644 });
    }
  }

  private fillUp(): void {
    const fd = openSync(join(this.directory, FILLER), 'w', 0o600);
    try {
      for (;;) {
        writeSync(fd, FILLER_CHUNK);
      }
    } catch (err) {
      if (codeOf(err) !== 'ENOSPC') {
        throw err;
      }
    } finally {
      closeSync(fd);
    }
  }
}
