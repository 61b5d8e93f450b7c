/*
 * vminfod's eye on the zones' config directories: a change of a file there becomes a change of the VM.
 *
 * The directories are written by the agent, by vmadm and by hand, none of which tells the node. Each directory
 * is watched; after a notice, and when a watch begins, its files are read and compared.
 */
import { existsSync, watch, type FSWatcher } from 'node:fs';

import type { Paths } from '../../src/platform/paths';
import { ZoneDisk } from './disk';
import { readConfig } from './store';
import type { Zone } from './zone';

/** A rename over a file comes as several notices; one look at the files will do. */
const SETTLE_MS = 2;

interface Eye {
  readonly watcher: FSWatcher;
  timer: NodeJS.Timeout | null;
}

/** Watches the config files of all zones, as vminfod does. */
export class ConfigWatch {
  private readonly paths: Paths;
  private readonly changed: (zone: Zone) => void;
  private readonly eyes = new Map<string, Eye>();

  /** @param changed called after the zone's config was replaced by what the files say now */
  constructor(paths: Paths, changed: (zone: Zone) => void) {
    this.paths = paths;
    this.changed = changed;
  }

  /** Watches the zone's directory from now on, anew where it was watched: it may be another one. */
  open(zone: Zone): void {
    this.close(zone);
    const { config } = new ZoneDisk(this.paths, zone);
    if (!existsSync(config)) {
      return;
    }
    const watcher = watch(config, () => {
      eye.timer ??= setTimeout(() => {
        eye.timer = null;
        this.read(zone);
      }, SETTLE_MS);
    });
    // The directory goes away under it only with its zone, and that closes this.
    watcher.on('error', () => undefined);
    const eye: Eye = { watcher, timer: null };
    this.eyes.set(zone.zonename, eye);
    // What changed before the watch began.
    this.read(zone);
  }

  /** Idempotent. */
  close(zone: Zone): void {
    const eye = this.eyes.get(zone.zonename);
    if (eye !== undefined) {
      this.eyes.delete(zone.zonename);
      eye.watcher.close();
      clearTimeout(eye.timer ?? undefined);
    }
  }

  private read(zone: Zone): void {
    const config = readConfig(new ZoneDisk(this.paths, zone).config);
    if (JSON.stringify(config) !== JSON.stringify(zone.config)) {
      zone.config = config;
      zone.lastModified = new Date().toISOString();
      this.changed(zone);
    }
  }
}
