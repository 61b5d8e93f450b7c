/*
 * The node: all its zones, and what can be done to them.
 *
 * One object in one process (`simcn up`), spoken to by commands.ts. Zones are keyed by zonename; a
 * command may name one by its uuid as well. It survives its own end: zones that ran run again when a
 * node is made on the same root, as after a reboot of the host.
 *
 * Two rules meet at snapshots. One of a zone with delegated datasets leaves those out: that is this project's
 * design. The platform's own vmadm refuses to take one at all, and so does the node's vmadm (vmadm.ts).
 */
import { destroyedByReprovision, snapshotScope } from './snapshot-scope';
import { messageOf } from '../../src/lib/errors';
import { ownString, type JsonObject } from '../../src/metadata/vm-data';
import { zoneMeant } from '../zone-name';
import type { Emulation } from './emulation';
import { ConfigWatch, ZoneDisk } from './disk';
import { Lifecycle } from './lifecycle';
import type { Machine } from './kernel';
import { nicsOf, shown } from './nics';
import { killStrayQemu } from './hypervisor';
import type { StartState, VmInput } from './vm-input';
import { ZfsTree, type Listed } from './zfs-tree';
import { Zone } from './zone';

/** One node and its zones. */
export class Node {
  readonly machine: Machine;
  private readonly emulation: Emulation;
  private readonly lifecycle: Lifecycle;
  private readonly zones = new Map<string, Zone>();
  private readonly configs: ConfigWatch;

  constructor(machine: Machine, emulation: Emulation) {
    this.machine = machine;
    this.emulation = emulation;
    this.lifecycle = new Lifecycle(machine, emulation);
    this.configs = new ConfigWatch(machine.paths, (zone) => machine.feed.modified(zone.vm()));
  }

  get size(): number {
    return this.zones.size;
  }

  all(): Zone[] {
    return [...this.zones.values()];
  }

  /**
   * @param word its name, uuid or alias, or how its name begins
   * @throws Error for a zone that is not there, and for a word that several could mean
   */
  find(word: string): Zone {
    const named = this.zones.get(word);
    if (named !== undefined) {
      return named;
    }
    const meant = zoneMeant(
      word,
      this.all().map(({ zonename, uuid, properties }) => {
        return { zonename, uuid, alias: ownString(properties, 'alias') ?? null };
      }),
    );
    const zone = meant.kind === 'zone' ? this.zones.get(meant.zonename) : undefined;
    if (meant.kind === 'several') {
      const lines = meant.candidates.map((line) => `\n  ${line}`).join('');
      throw new Error(`${word} could be ${meant.count} zones:${lines}`);
    }
    if (zone === undefined) {
      throw new Error(`no such zone: ${word} (list them: simcn ls)`);
    }
    return zone;
  }

  /** The VM objects of all zones, as vminfod has them or will. */
  vms(): JsonObject[] {
    return this.all().map((zone) => zone.vm());
  }

  /**
   * Restores the zones of an earlier run, and boots those that ran or boot by themselves. What the node
   * stored counts, and the index is made from it: a run that was killed may have left it a step behind.
   * A zone that does not boot any more stays halted, and a line on stderr says so.
   */
  async recover(): Promise<void> {
    const zones = this.machine.store.load().map((vm) => new Zone(vm));
    this.emulation.zonesConfigure(zones.map(indexEntry));
    for (const zone of zones) {
      const disk = new ZoneDisk(this.machine.paths, zone);
      killStrayQemu(disk.logs);
      this.zones.set(zone.zonename, zone);
      this.configs.open(zone);
      zone.snapshots = disk.snapshots();
      this.lifecycle.changed(zone);
    }
    await this.each(zones.filter(bootsByItself), (zone) => this.lifecycle.boot(zone)).catch(
      (err: unknown) => this.machine.notice(messageOf(err)),
    );
  }

  /**
   * Makes zones and takes each to the state it was given.
   * @param boot true: all are booted, whatever their state says
   * @param strict nics that another VM has are refused too, as vmadm create does
   * @throws Error when one of them exists already: then none is made
   */
  async create(vms: readonly VmInput[], boot: boolean, strict = false): Promise<Zone[]> {
    const zones = vms.map((vm) => new Zone(storedForm(vm)));
    const existing = zones.find((zone, i) => {
      const same = (other: Zone): boolean => {
        return other.zonename === zone.zonename || other.uuid === zone.uuid;
      };
      return this.all().some(same) || zones.findIndex(same) < i;
    });
    if (existing !== undefined) {
      throw new Error(`VM with UUID ${existing.uuid} already exists`);
    }
    if (strict && zones.some((zone) => this.hasConflict(zone))) {
      throw new Error('Conflict detected with another vm, please check the MAC, IP, and VRID');
    }
    for (const zone of zones) {
      this.zones.set(zone.zonename, zone);
    }
    try {
      this.emulation.zonesConfigure(zones.map(indexEntry));
    } catch (err) {
      for (const zone of zones) {
        this.zones.delete(zone.zonename);
      }
      throw err;
    }
    const late: [Zone, StartState][] = [];
    const inputs = new Map(zones.map((zone, i) => [zone, vms[i]]));
    await this.each(zones, async (zone) => {
      const vm = inputs.get(zone);
      if (vm === undefined) {
        return;
      }
      const start = boot ? 'running' : vm.start;
      const until = start === 'configured' || start === 'incomplete' ? start : 'installed';
      try {
        await this.lifecycle.install(zone, vm.config, until);
        this.configs.open(zone);
        if (vm.nowait) {
          late.push([zone, start]);
        } else {
          await this.lifecycle.startAs(zone, start);
        }
      } catch (err) {
        // What cannot be installed or does not boot the first time is of no use: nothing of it stays.
        this.configs.close(zone);
        await this.lifecycle.destroy(zone);
        this.zones.delete(zone.zonename);
        throw err;
      }
    });
    for (const [zone, start] of late) {
      // Whoever made it is gone when it fails.
      zone
        .exclusive(() => this.lifecycle.startAs(zone, start))
        .catch((err: unknown) => this.machine.notice(messageOf(err)));
    }
    return zones;
  }

  /** Another zone has a MAC of this one, or one of its addresses on the same network. (VM.js) */
  private hasConflict(zone: Zone): boolean {
    const places = new Set(this.all().flatMap(placesOf));
    return placesOf(zone).some((place) => places.has(place));
  }

  boot(id: string): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      if (zone.status === 'ready') {
        await this.lifecycle.halt(zone);
      }
      await this.lifecycle.boot(zone);
    });
  }

  shutdown(id: string): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      mustBeKnown(zone);
      zone.wanted = false;
      await this.lifecycle.halt(zone);
    });
  }

  /** @param guest true: the guest reboots, the operator has nothing to do with it */
  reboot(id: string, guest: boolean): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      mustBeKnown(zone);
      if (guest) {
        await this.lifecycle.guestReboot(zone);
        return;
      }
      await this.lifecycle.halt(zone);
      await this.lifecycle.boot(zone);
    });
  }

  destroy(id: string): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      // A second destroy may have waited behind the first.
      this.find(zone.zonename);
      this.configs.close(zone);
      await this.lifecycle.destroy(zone);
      this.zones.delete(zone.zonename);
    });
  }

  snapshot(id: string, name: string): Promise<void> {
    return this.onSnapshots(id, (disk) => disk.snapshot(name));
  }

  deleteSnapshot(id: string, name: string): Promise<void> {
    return this.onSnapshots(id, (disk) => disk.destroySnapshot(name));
  }

  /**
   * Puts the zone's own dataset back. A running zone is halted for it and booted again.
   * @param start a zone that does not run is booted as well, as vmadm does
   */
  rollback(id: string, name: string, start: boolean): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      zonerootOf(zone);
      const disk = this.diskOf(zone);
      if (!disk.snapshots().some((snapshot) => snapshot.name === name)) {
        throw new Error(`No snapshot named "${name}" for ${zone.uuid}`);
      }
      await this.whileHalted(zone, () => disk.rollback(name), start);
    });
  }

  /** The same, with a fresh root: snapshots of the old one are gone, delegated data stays. */
  reprovision(id: string): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      const zoneroot = zonerootOf(zone);
      const disk = this.diskOf(zone);
      await this.whileHalted(zone, async () => {
        const ofRoot = disk.snapshots().map(({ name }) => `${zoneroot}@${name}`);
        const below = new ZfsTree(this.machine.paths, zone).list().map(({ name }) => name);
        for (const name of destroyedByReprovision(zoneroot, [...ofRoot, ...below])) {
          await disk.destroySnapshot(name.slice(zoneroot.length + 1));
        }
        await disk.reprovision();
      });
    });
  }

  /** What the node's own zfs lists: zoneroots, their snapshots, and what is delegated. */
  pool(): Listed[] {
    const listed: Listed[] = [{ name: 'zones', type: 'filesystem' }];
    for (const zone of this.all().filter(({ indexState }) => indexState !== 'configured')) {
      const zoneroot = String(zone.properties.zfs_filesystem);
      listed.push({ name: zoneroot, type: 'filesystem' });
      for (const { name } of new ZoneDisk(this.machine.paths, zone).snapshots()) {
        listed.push({ name: `${zoneroot}@${name}`, type: 'snapshot' });
      }
      listed.push(...new ZfsTree(this.machine.paths, zone).list());
    }
    return listed;
  }

  /** What zonecfg does for vmadm: properties replaced, those given as null removed. */
  setProperties(id: string, set: JsonObject): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(() => {
      const kept = Object.entries({ ...zone.properties, ...set }).filter(([, v]) => v !== null);
      zone.properties = Object.fromEntries(kept);
      zone.lastModified = new Date().toISOString();
      this.lifecycle.changed(zone);
      return Promise.resolve();
    });
  }

  /** Halts all; zones that ran will run again. Collects failures instead of stopping at the first. */
  async stop(): Promise<void> {
    for (const zone of this.zones.values()) {
      this.configs.close(zone);
    }
    await this.each(this.all(), async (zone) => {
      if (zone.known) {
        await this.lifecycle.halt(zone);
      }
    });
  }

  /** The config directory is another one from now on: something was mounted over it, or unmounted. */
  rewatch(zone: Zone): void {
    this.configs.open(zone);
  }

  private onSnapshots(id: string, change: (disk: ZoneDisk) => Promise<void>): Promise<void> {
    const zone = this.find(id);
    return zone.exclusive(async () => {
      zonerootOf(zone);
      const disk = this.diskOf(zone);
      await change(disk);
      zone.snapshots = disk.snapshots();
      this.lifecycle.changed(zone);
    });
  }

  private diskOf(zone: Zone): ZoneDisk {
    if (zone.indexState !== 'installed') {
      throw new Error(`zone ${zone.zonename} is ${zone.indexState}, not installed`);
    }
    return new ZoneDisk(this.machine.paths, zone);
  }

  private async whileHalted(zone: Zone, work: () => Promise<void>, start = false): Promise<void> {
    const ran = zone.known;
    if (ran) {
      await this.lifecycle.halt(zone);
    }
    await work();
    this.configs.open(zone);
    zone.snapshots = this.diskOf(zone).snapshots();
    this.lifecycle.changed(zone);
    if (ran || start) {
      await this.lifecycle.boot(zone);
    }
  }

  private async each(zones: readonly Zone[], work: (zone: Zone) => Promise<void>): Promise<void> {
    const results = await Promise.allSettled(zones.map((zone) => zone.exclusive(() => work(zone))));
    const failures = results.flatMap((r) => (r.status === 'rejected' ? [messageOf(r.reason)] : []));
    if (failures.length > 0) {
      throw new Error(failures.join('\n'));
    }
  }
}

/** What no two nics of a node may share. */
function placesOf({ properties }: Zone): string[] {
  return nicsOf(properties.nics).flatMap(({ mac, ips, nic_tag, vlan_id }) => {
    const fixed = (Array.isArray(ips) ? ips.map(String) : []).filter((ip) => ip.includes('/'));
    const network = `${String(nic_tag)} ${shown(vlan_id ?? 0)}`;
    return [String(mac), ...fixed.map((ip) => `${network} ${ip.replace(/\/.*/, '')}`)];
  });
}

function mustBeKnown(zone: Zone): void {
  if (!zone.known) {
    throw new Error(
      `zone ${zone.zonename} is not running (it is ${zone.zoneState}; start it: simcn boot)`,
    );
  }
}

function bootsByItself(zone: Zone): boolean {
  return zone.indexState === 'installed' && (zone.wanted || zone.properties.autoboot === true);
}

function indexEntry(zone: Zone) {
  const { zonename: name, brand, zonepath, uuid, indexState: state } = zone;
  return { name, brand: brand.name, zonepath, uuid, state };
}

function storedForm(vm: VmInput) {
  const { properties, overlay, image } = vm;
  return { properties, overlay, image, indexState: 'configured' as const, running: false };
}

/** The dataset that snapshots of the zone are of. @throws Error where they are refused */
function zonerootOf(zone: Zone): string {
  const scope = snapshotScope(zone.properties);
  switch (scope.kind) {
    case 'zoneroot':
      return scope.dataset;
    case 'refused':
      throw new Error(`zone ${zone.zonename} (${zone.brand.name}): ${scope.why}`);
  }
}
