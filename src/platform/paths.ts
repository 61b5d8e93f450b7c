/*
 * Where things are on a compute node, below the root that the daemon was given.
 *
 * Whoever names a platform path names it here. Such a path (`/zones/<uuid>`, as libzonecfg and VM objects give it)
 * becomes a path of this machine through `host`.
 */
import { join } from 'node:path';

export class Paths {
  /** The directory of all zones' sockets; made by the zones service at boot, mode 755. */
  readonly zonecontrol: string;

  /** @param root an absolute path; `/` on SmartOS */
  constructor(readonly root: string) {
    this.zonecontrol = this.host('/var/zonecontrol');
  }

  /** A platform path as this machine's path. */
  host(platformPath: string): string {
    return join(this.root, platformPath);
  }

  /** The directory of one zone's socket, the one that is mounted into the zone. */
  zoneDirectory(zonename: string): string {
    return `${this.zonecontrol}/${zonename}`;
  }

  zoneSocket(zonename: string): string {
    return `${this.zoneDirectory(zonename)}/metadata.sock`;
  }

  /** The configured zones, one a line; every node has it. */
  get zoneIndex(): string {
    return this.host('/etc/zones/index');
  }

  get mnttab(): string {
    return this.host('/etc/mnttab');
  }

  /** The agent's own directory: its admin socket and the lock that keeps a second agent out. */
  get runDir(): string {
    return this.host('/var/run/mdatad');
  }

  get adminSocket(): string {
    return join(this.runDir, 'admin.sock');
  }

  get agentLock(): string {
    return join(this.runDir, 'agent.lock');
  }

  /** The secret of this node, of which tokens are made. `/var` survives a boot of a node, `/var/run` does not. */
  get nodeKey(): string {
    return this.host('/var/db/mdatad/token.key');
  }

  /** The lock that the platform's VM tool takes around a change of a VM's configuration. */
  vmConfigLock(uuid: string): string {
    return this.host(`/var/run/vm.${uuid}.config.lockfile`);
  }

  get vmadm(): string {
    return this.host('/usr/sbin/vmadm');
  }

  get zfs(): string {
    return this.host('/usr/sbin/zfs');
  }

  /** Where vminfod answers: its loopback port on a node, a socket below a simulated root. */
  get vminfodUrl(): string {
    return this.root === '/'
      ? 'http://127.0.0.1:9090'
      : `unix:${this.host('/var/run/vminfod.sock')}`;
  }
}

/**
 * Where a brand shows the directory of a zone's socket, as the zone sees it: lx keeps what is native of SmartOS
 * below /native (brand/lx/zone/platform.xml).
 */
export function mountPointOf(brand: string): string {
  return brand === 'lx' ? '/native/.zonecontrol' : '/.zonecontrol';
}
