/*
 * What a zone's brand decides: the kind of VM it is, and where the socket folder shows inside it.
 *
 * The platform has this in each brand's platform.xml and statechange hook. (spec: platform section 7)
 */

export interface Brand {
  readonly name: string;
  /** The `type` that `vmadm lookup` adds. */
  readonly type: 'OS' | 'LX' | 'KVM' | 'BHYV';
  readonly hvm: boolean;
  /** Where the brand mounts the socket folder, as the zone sees it; null: it does not. */
  readonly mountPoint: string | null;
}

/** The option string of the brands' lofs mounts. */
export const MOUNT_OPTIONS = 'ro,nodevices,nosetuid,noexec';

const NATIVE_MOUNT_POINT = '/.zonecontrol';
const LX_MOUNT_POINT = '/native/.zonecontrol';

/** Every brand has an answer: one that is not known here is taken for an OS brand without a mount. */
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
