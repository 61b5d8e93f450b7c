/*
 * The brands' own files on the node, as far as anyone reads them: platform.xml, which says what the brand
 * mounts into a zone while it becomes ready. (spec: illumos-abi, platform section 7)
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import type { Paths } from '../../src/platform/paths';
import { brandOf, MOUNT_OPTIONS, type Brand } from './brand';

const BRANDS = ['joyent', 'joyent-minimal', 'builder', 'lx', 'kvm', 'bhyve'] as const;

/** @param oldPlatform before December 2016 no brand mounted the socket folder */
export function installBrands(paths: Paths, oldPlatform: boolean): void {
  for (const brand of BRANDS.map(brandOf)) {
    const folder = paths.host(`/usr/lib/brand/${brand.name}`);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    writeFileSync(`${folder}/platform.xml`, platformXml(brand, oldPlatform), { mode: 0o644 });
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
