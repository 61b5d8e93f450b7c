/* The files of a simulated node in a temporary directory, for tests of the platform's calls. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openPlatform, type Platform } from '../../src/platform/libzonecfg';
import { Paths } from '../../src/platform/paths';
import { openEmulation, type Emulation } from '../../tools/simcn/emulation';

/** The kernel's zone_status_t, as far as tests move zones by hand. */
export const STATUS = {
  initialized: 1,
  ready: 2,
  booting: 3,
  running: 4,
  shutting_down: 5,
  empty: 6,
  down: 7,
  dying: 8,
  dead: 9,
  free: 10,
} as const;

export interface EmulatedNode {
  readonly root: string;
  readonly paths: Paths;
  readonly platform: Platform;
  readonly emulation: Emulation;
  /** Makes an installed zone, its root directory included. */
  addZone(name: string, brand?: string): void;
  /** Has the index say no zone's brand, as platforms before 2015: libzonecfg is asked for each. */
  leaveOutBrands(): void;
  /** Leaves the zone's brand out of the index, and its XML unreadable. */
  damageZone(name: string, xml?: string): void;
  /** Names of the sockets on the event channel: one a subscriber, living or dead. */
  subscribers(): string[];
  /** Unmounts and removes everything. */
  remove(): void;
}

/** @param parent where the root is made: a long one makes long paths */
export function makeNode(parent = tmpdir()): EmulatedNode {
  const root = mkdtempSync(join(parent, 'mdatad-node-'));
  const paths = new Paths(root);
  const emulation = openEmulation(root);
  emulation.nodeBoot();
  const leaveOutBrands = (): void => {
    const text = readFileSync(paths.zoneIndex, 'utf8');
    // A platform before 2015 wrote four fields.
    writeFileSync(paths.zoneIndex, text.replace(/^((?:[^:\n]*:){3}[^:\n]*):.*$/gm, '$1'));
  };
  return {
    root,
    paths,
    platform: openPlatform(root),
    emulation,
    addZone: (name, brand = 'joyent') => {
      const zonepath = `/zones/${name}`;
      emulation.zonesConfigure([
        { name, brand, zonepath, uuid: `uuid-of-${name}`, state: 'installed' },
      ]);
      mkdirSync(paths.host(`${zonepath}/root`), { recursive: true });
    },
    leaveOutBrands,
    damageZone: (name, xml = '<zone') => {
      leaveOutBrands();
      writeFileSync(paths.host(`/etc/zones/${name}.xml`), xml);
    },
    subscribers: () => readdirSync(join(root, 'system/simcn/evchan')),
    remove: () => {
      emulation.unmountAll();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
