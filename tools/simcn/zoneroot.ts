/*
 * What a zone's root is made of.
 *
 * A zone's programs are the host's: its /usr and the like are bound into the root when something is
 * executed there (view.ts). So the root on disk begins with little: files of its own in /etc, /tmp, and
 * the brand's mount point. An image (`rootfs`) brings programs of its own, which win. The rest of the
 * mount points, and the links that lead into /usr, come with the first program. A hypervisor's root has
 * nothing but /tmp, where its serial ports are.
 */
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';

import { codeOf } from '../../src/lib/errors';

export interface ZonerootFacts {
  readonly hostname: string;
  /** Where the socket directory is mounted, as the zone sees it. */
  readonly mountPoint: string | null;
  readonly hvm: boolean;
}

/** Of the host, as far as it has them: a directory that zones share, or a link that is the same in each. */
export interface HostDirectory {
  readonly path: string;
  /** Null: a directory. */
  readonly link: string | null;
}

const HOST_DIRECTORIES = [
  '/usr',
  '/bin',
  '/sbin',
  '/lib',
  '/lib32',
  '/lib64',
  '/etc/alternatives',
  '/etc/ssl',
] as const;

/** The checkout, seen from the built file. */
export const PROJECT = join(__dirname, '..', '..', '..');

/** Where the node's own tools are seen in a zone. */
export const TOOLS = '/opt/simcn';

/**
 * The machine's own directories with programs, as far as there are any: zones see them, but for those that
 * their image brought.
 */
export function hostDirectories(zoneroot: string): HostDirectory[] {
  return HOST_DIRECTORIES.flatMap((path) => {
    const found = stat(path);
    if (found === undefined || isFilled(join(zoneroot, path))) {
      return [];
    }
    return [{ path, link: found.isSymbolicLink() ? readlinkSync(path) : null }];
  });
}

/** Fills an empty root. */
export function makeZoneroot(zoneroot: string, facts: ZonerootFacts): void {
  makeDirectory(zoneroot, '/tmp');
  if (facts.hvm) {
    return;
  }
  if (facts.mountPoint !== null) {
    makeDirectory(zoneroot, facts.mountPoint);
  }
  makeDirectory(zoneroot, '/var/db');
  makeDirectory(zoneroot, '/var/svc');
  makeDirectory(zoneroot, '/root');
  makeDirectory(zoneroot, '/etc');
  const { hostname } = facts;
  // What an image brought may be a link that leads out of the zone: never written through.
  const file = (path: string, text: string): void => {
    rmSync(join(zoneroot, path), { force: true });
    writeFileSync(join(zoneroot, path), text, { flag: 'wx' });
  };
  const missing = (path: string): boolean => stat(join(zoneroot, path)) === undefined;
  if (missing('/etc/passwd')) {
    file(
      '/etc/passwd',
      'root:x:0:0:Super-User:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n',
    );
  }
  if (missing('/etc/group')) {
    file('/etc/group', 'root:x:0:\nnogroup:x:65534:\n');
  }
  file('/etc/hosts', `127.0.0.1\tlocalhost ${hostname}\n::1\tlocalhost\n`);
  file('/etc/nodename', `${hostname}\n`);
  // There until the first boot got as far as the scripts, as vmadm makes it.
  file('/var/svc/provisioning', '');
}

/** Makes the places that a view binds to, and the host's links, where the zone does not have them. */
export function makeMountPoints(zoneroot: string, targets: readonly string[]): void {
  for (const target of targets) {
    makeDirectory(zoneroot, target);
  }
  for (const { path, link } of hostDirectories(zoneroot)) {
    const inside = join(zoneroot, path);
    if (link === null || stat(inside)?.isSymbolicLink() === true) {
      continue;
    }
    if (stat(inside) !== undefined) {
      // An empty directory of the image: hostDirectories names no other.
      rmdirSync(inside);
    }
    symlinkSync(link, inside);
  }
}

/**
 * Makes a directory in a root that a guest may have rearranged.
 * @throws Error for a symbolic link on the way: it could lead out of the zone
 */
function makeDirectory(zoneroot: string, path: string): void {
  let inside = zoneroot;
  for (const name of path.split('/').filter((part) => part !== '')) {
    inside = join(inside, name);
    const found = stat(inside);
    if (found === undefined) {
      mkdirSync(inside, { mode: 0o755 });
    } else if (!found.isDirectory()) {
      throw new Error(`${inside} is not a directory`);
    }
  }
}

/** Something of an image is there: not nothing, and not the empty directory that a view was bound over. */
function isFilled(path: string): boolean {
  const found = stat(path);
  return found !== undefined && !(found.isDirectory() && readdirSync(path).length === 0);
}

/** What is there, symbolic links not followed; undefined for nothing. */
function stat(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return undefined;
    }
    throw err;
  }
}
