/*
 * The template that a zone's root is made from.
 *
 * A zone's programs are the host's: its /usr and the like are bound into the root when something is
 * executed there (view.ts), so the root on disk holds mount points, the links that lead into /usr, and
 * files of its own in /etc. A hypervisor's root has nothing but /tmp, where its serial port is.
 */
import { lstatSync, mkdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { codeOf } from '../../src/errors';

export interface ZonerootFacts {
  readonly hostname: string;
  /** Where the socket folder is mounted, as the zone sees it. */
  readonly mountPoint: string | null;
  readonly hvm: boolean;
  /** Names of delegated datasets; each is seen at `/<name>`. */
  readonly datasets: readonly string[];
}

/** The host's folders that a zone shares, where the host has them as folders; links are copied. */
export const SHARED_FOLDERS = [
  '/usr',
  '/bin',
  '/sbin',
  '/lib',
  '/lib32',
  '/lib64',
  '/etc/alternatives',
  '/etc/ssl',
] as const;

/** Where the node's own tools are seen in a zone. */
export const TOOLS = '/opt/simcn';

/** Made once: the host does not change while a node is up. */
let shared: readonly { readonly path: string; readonly link: string | null }[] | undefined;

export function hostFolders(): readonly { readonly path: string; readonly link: string | null }[] {
  shared ??= SHARED_FOLDERS.flatMap((path) => {
    try {
      return [{ path, link: lstatSync(path).isSymbolicLink() ? readlinkSync(path) : null }];
    } catch (err) {
      if (codeOf(err) === 'ENOENT') {
        return [];
      }
      throw err;
    }
  });
  return shared;
}

/** Fills an empty root; what is there already stays as it is. */
export function makeZoneroot(zoneroot: string, facts: ZonerootFacts): void {
  const folder = (path: string, mode = 0o755) =>
    mkdirSync(join(zoneroot, path), { recursive: true, mode });
  folder('/tmp');
  if (facts.hvm) {
    return;
  }
  for (const path of ['/etc', '/dev', '/proc', '/root', '/var/db', '/var/tmp', '/var/svc/log']) {
    folder(path);
  }
  for (const path of ['/bin', '/node', '/project']) {
    folder(`${TOOLS}${path}`);
  }
  for (const { path, link } of hostFolders()) {
    if (link === null) {
      folder(path);
    } else {
      linkOnce(link, join(zoneroot, path));
    }
  }
  for (const name of facts.datasets) {
    folder(`/${name}`);
  }
  if (facts.mountPoint !== null) {
    folder(facts.mountPoint);
  }
  const file = (path: string, text: string) => writeOnce(join(zoneroot, path), text);
  file('/etc/passwd', 'root:x:0:0:Super-User:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n');
  file('/etc/group', 'root:x:0:\nnogroup:x:65534:\n');
  file('/etc/hosts', `127.0.0.1\tlocalhost ${facts.hostname}\n::1\tlocalhost\n`);
  file('/etc/nodename', `${facts.hostname}\n`);
}

function linkOnce(target: string, path: string): void {
  try {
    symlinkSync(target, path);
  } catch (err) {
    if (codeOf(err) !== 'EEXIST') {
      throw err;
    }
  }
}

function writeOnce(path: string, text: string): void {
  try {
    writeFileSync(path, text, { mode: 0o644, flag: 'wx' });
  } catch (err) {
    if (codeOf(err) !== 'EEXIST') {
      throw err;
    }
  }
}
