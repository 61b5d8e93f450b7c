/*
 * The probes of preflight that make sockets as the agent does, in a scratch directory: by the addon's own
 * listeners, with a peer in another process. Run by child.ts, one a process. A mount that is
 * left behind is removed by preflight.ts.
 */
import { chmodSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { codeOf } from '../../src/lib/errors';
import { openPlatform, type PeerCredential } from '../../src/platform/libzonecfg';
import { parseMnttab, type MountEntry } from '../../src/platform/mounts';
import { ZoneRoots } from '../../src/platform/zone-root';
import { Paths } from '../../src/platform/paths';
import { listenUnix, type Listener } from '../../src/platform/sockets';
import { fail, helper, ok, type Ground, type Finding } from './check';

/** The user and group `nobody` of illumos; elsewhere nobody in particular. */
const OTHER_UID = 60001;

export async function socket({ directory }: Ground): Promise<Finding> {
  const path = join(directory, 'metadata.sock');
  const first = listenAt(path);
  const stays = await connected(path);
  try {
    const reached = await echo(stays);
    const second = listenAt(path);
    const other = await connected(path);
    try {
      await echo(other);
      await echo(stays);
      if (!reached || first.accepts !== 1 || second.accepts !== 1) {
        return fail('a connection by the path reached the wrong listener');
      }
    } finally {
      other.destroy();
      second.listener.close();
    }
  } finally {
    stays.destroy();
    first.listener.close();
  }
  return ok('bound, 0600, renamed twice, each listener reached');
}

export async function peerCredential({ root, directory }: Ground): Promise<Finding> {
  const uid = process.geteuid?.() ?? 0;
  const { result, peer } = await connectAs(root, directory, uid, 0o700, 0o600);
  if (result.outcome !== 'connected' || peer === null) {
    return fail(`no connection: ${result.outcome}`);
  }
  const seen = `zone ${peer.zoneid}, uid ${peer.uid}, pid ${peer.pid === result.pid ? 'right' : 'wrong'}`;
  const right = peer.zoneid === 0 && peer.uid === uid && peer.pid === result.pid;
  return right ? ok(seen) : fail(seen);
}

/** A native program needs no permission on the socket itself (sockfs, socktpi.c, so_ux_lookup). */
export async function otherUser({ root, directory }: Ground): Promise<Finding> {
  const closed = await connectAs(root, join(directory, 'closed'), OTHER_UID, 0o700, 0o666);
  const guarded = await connectAs(root, join(directory, 'guarded'), OTHER_UID, 0o755, 0o600);
  const open = await connectAs(root, join(directory, 'open'), OTHER_UID, 0o755, 0o666);
  return otherUserFinding(closed.result.outcome, guarded.result.outcome, open.peer);
}

/**
 * @param closed what came of it where the directory is root's alone
 * @param guarded where only the socket's mode is in the way
 * @param peer who it was where nothing is in the way
 */
export function otherUserFinding(
  closed: string,
  guarded: string,
  peer: PeerCredential | null,
): Finding {
  if (closed !== 'EACCES') {
    return fail(`uid ${OTHER_UID} got through a 0700 directory: ${closed}`);
  }
  if (peer?.uid !== OTHER_UID) {
    return fail(`uid ${OTHER_UID} is reported as ${peer?.uid ?? 'nobody'}`);
  }
  const alone = guarded === 'connected' ? 'does not' : 'does too';
  return ok(`0700 keeps it out, uid reported (0600 alone ${alone})`);
}

interface Connected {
  readonly result: { readonly pid: number; readonly outcome: string };
  readonly peer: PeerCredential | null;
}

/** Has a child connect as a user, to a socket in a new directory. */
async function connectAs(
  root: string,
  directory: string,
  uid: number,
  directoryMode: number,
  socketMode: number,
): Promise<Connected> {
  const above = dirname(directory);
  mkdirSync(join(directory, 'in'), { recursive: true });
  chmodSync(directory, 0o755);
  chmodSync(join(directory, 'in'), directoryMode);
  const path = join(directory, 'in', 'metadata.sock');
  let peer: PeerCredential | null = null;
  const { listener } = listenAt(path, (fd) => (peer = openPlatform(root).peer(fd)));
  chmodSync(path, socketMode);
  try {
    const reply = await helper(['as', String(uid), directory, 'in/metadata.sock']);
    const { pid, outcome, seen } = reply;
    if (typeof pid !== 'number' || typeof outcome !== 'string') {
      throw new Error(`uid ${uid} could not be taken below ${above}: ${String(seen)}`);
    }
    return { result: { pid, outcome }, peer };
  } finally {
    listener.close();
  }
}

export async function lofs({ root, directory }: Ground): Promise<Finding> {
  const mnttab = new Paths(root).mnttab;
  const roots = new ZoneRoots(root);
  const special = join(directory, 'from');
  // The scratch directory stands for a zonepath: its `root` is where a zone's root would be.
  const zone = roots.of(directory);
  const zoneroot = zone.nameOf('');
  const at = join(zoneroot, 'at');
  mkdirSync(special);
  mkdirSync(zoneroot);
  const path = join(special, 'metadata.sock');
  const bound = listenAt(path);
  const mounted = (): MountEntry | undefined => {
    return parseMnttab(readFileSync(mnttab, 'utf8')).find(({ mountPoint }) => mountPoint === at);
  };
  try {
    await zone.mount(special, '/at');
    try {
      const entry = mounted();
      if (entry?.special !== special || !entry.options.includes('ro')) {
        return fail('the mount table does not show the mount as it was asked for');
      }
      const stream = await connected(join(at, 'metadata.sock'));
      const reached = await echo(stream);
      stream.destroy();
      if (!reached) {
        return fail('a connection through the mount does not reach the listener');
      }
      const [here, there] = [statSync(path), statSync(join(at, 'metadata.sock'))];
      if (here.ino !== there.ino || here.dev !== there.dev) {
        return fail('the socket has another st_dev or st_ino through the mount');
      }
      const code = codeOf(attempt(() => writeFileSync(join(at, 'file'), '')));
      if (code !== 'EROFS') {
        return fail(`writing through the mount: ${code}, not EROFS`);
      }
    } finally {
      await zone.unmount(at);
    }
  } finally {
    bound.listener.close();
    roots.stop();
  }
  return mounted() === undefined
    ? ok('mounted, reached, EROFS, unmounted, table true')
    : fail('the mount table still shows what was unmounted');
}

interface Bound {
  readonly listener: Listener;
  accepts: number;
}

/**
 * Binds beside the path, sets the mode and renames, as the agent does; then sends back what comes in.
 * @param accepted where it is given, is called with each connection, which is then closed
 */
function listenAt(path: string, accepted?: (fd: number) => void): Bound {
  const own = `${path}.own`;
  const listener = listenUnix(
    own,
    (stream) => {
      bound.accepts++;
      stream.start({
        data: (chunk) => stream.write(Buffer.from(chunk)),
        ended: () => stream.end(),
        drain: () => undefined,
        closed: () => undefined,
      });
      if (accepted !== undefined) {
        const { fd } = stream;
        try {
          if (fd !== undefined) {
            accepted(fd);
          }
        } finally {
          stream.destroy();
        }
      }
    },
    () => undefined,
  );
  const bound: Bound = { listener, accepts: 0 };
  chmodSync(own, 0o600);
  renameSync(own, path);
  return bound;
}

async function connected(path: string): Promise<Socket> {
  const stream = connect({ path });
  await once(stream, 'connect');
  return stream;
}

async function echo(stream: Socket): Promise<boolean> {
  stream.write('ping');
  const [chunk] = (await once(stream, 'data')) as [Buffer];
  return chunk.toString('latin1') === 'ping';
}

function attempt(step: () => void): unknown {
  try {
    step();
    return undefined;
  } catch (err) {
    return err;
  }
}
