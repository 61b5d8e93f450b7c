/*
 * What a zone's brand decides: the kind of VM it is, and where the socket's directory shows inside it.
 *
 * The platform has this in each brand's platform.xml and statechange hook (illumos-joyent
 * usr/src/lib/brand/<brand>/zone). The node has the former too, as far as anyone reads it: what the brand
 * mounts into a zone while it becomes ready.
 */
import { mkdirSync, writeFileSync } from 'node:fs';

import type { Paths } from '../../src/platform/paths';

export interface Brand {
  readonly name: string;
  /** The `type` that `vmadm lookup` adds. */
  readonly type: 'OS' | 'LX' | 'KVM' | 'BHYV';
  readonly hvm: boolean;
  /** Where the brand mounts the socket directory, as the zone sees it; null: it does not. */
  readonly mountPoint: string | null;
}

/** The option string of the brands' lofs mounts. */
export const MOUNT_OPTIONS = 'ro,nodevices,nosetuid,noexec';

const NATIVE_MOUNT_POINT = '/.zonecontrol';
const LX_MOUNT_POINT = '/native/.zonecontrol';

/** Every brand has an answer: one that is not known here counts as an OS brand without a mount. */
export function brandOf(name: string): Brand {
  switch (name) {
    case 'joyent':
    case 'joyent-minimal':
    case 'builder':
    case 'snapshot':
      return { name, type: 'OS', hvm: false, mountPoint: NATIVE_MOUNT_POINT };
    case 'lx':
      return { name, type: 'LX', hvm: false, mountPoint: LX_MOUNT_POINT };
    case 'kvm':
      return { name, type: 'KVM', hvm: true, mountPoint: null };
    case 'bhyve':
      return { name, type: 'BHYV', hvm: true, mountPoint: null };
    default:
      return { name, type: 'OS', hvm: false, mountPoint: null };
  }
}

const BRANDS = ['joyent', 'joyent-minimal', 'builder', 'lx', 'kvm', 'bhyve'] as const;

/** @param oldPlatform before December 2016 no brand mounted the socket directory */
export function installBrands(paths: Paths, oldPlatform: boolean): void {
  for (const brand of BRANDS.map(brandOf)) {
    const directory = paths.host(`/usr/lib/brand/${brand.name}`);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    writeFileSync(`${directory}/platform.xml`, platformXml(brand, oldPlatform), { mode: 0o644 });
  }
}

function platformXml({ name, mountPoint }: Brand, oldPlatform: boolean): string {
  const mount =
    mountPoint === null || oldPlatform
      ? ''
      : `  <global_mount special="/var/zonecontrol/%z" directory="${mountPoint}"
    opt="${MOUNT_OPTIONS}" type="lofs" />
`;
  return `<?xml version="1.0"?>
<platform name="${name}" allow-exclusive-ip="true">
${mount}</platform>
`;
}
