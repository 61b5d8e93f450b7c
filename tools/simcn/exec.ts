/*
 * `simcn exec`: runs a program in a zone's own view, as zlogin does.
 *
 * The view is made by the small C program zexec in a process that then becomes the command itself, so
 * that its root is the zone's. An ordinary user gets it through a user namespace; where even that is
 * refused the command runs on the host, finds the socket by MDATA_SOCKET, and a line on stderr says so.
 * It is the caller's own command: without a view it has the caller's rights, and no more.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';

import { call } from './control';
import { viewSchema, type View } from './view';
import { PROJECT } from './zoneroot';

const ZEXEC = join(PROJECT, 'native', 'build', 'Release', 'zexec');
/** What `simcn exec` is sent goes to the command. */
const PASSED_ON: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'];
/** A shell's way to tell of a signal in an exit status. */
const SIGNAL_STATUS_BASE = 128;

type Isolation = 'root' | 'user' | 'none';

/**
 * Resolves to the command's exit status (128 + n for signal n).
 * @throws ControlError when the zone cannot be entered
 */
export async function execInZone(
  root: string,
  uuid: string,
  argv: readonly string[],
): Promise<number> {
  const session = await call(root, 'enter', { uuid });
  try {
    const view = viewSchema.parse(session.result);
    return await runIn(view, argv, session.ended);
  } finally {
    session.end();
  }
}

/**
 * Runs a zone's own services beside the node, as its init would: in a process of its own that ends with
 * the zone. Nobody waits for it.
 */
export function startServices(
  root: string,
  zonename: string,
  onFailure: (text: string) => void,
): void {
  const program = join(__dirname, 'main.js');
  const argv = [program, 'exec', '--root', root, zonename, '--', 'mdata-services'];
  const child = spawn(process.execPath, argv, { stdio: 'ignore' });
  child.once('error', (err) =>
    onFailure(`the services of ${zonename} cannot be run: ${err.message}`),
  );
}

async function runIn(
  view: View,
  argv: readonly string[],
  halted: Promise<unknown>,
): Promise<number> {
  const isolation = isolationHere();
  const [program = '', ...args] = isolation === 'none' ? argv : zexecArgv(view, isolation, argv);
  // Listened for before the command runs: a signal may come as soon as it prints anything.
  let started: ChildProcess | null = null;
  const forward = PASSED_ON.map((signal) => {
    const listener = () => started?.kill(signal);
    process.on(signal, listener);
    return () => process.removeListener(signal, listener);
  });
  const child = spawn(program, args, {
    stdio: 'inherit',
    env: environment(view, isolation),
    // A group of its own, so that all of it can be ended where no view tells whose a process is.
    detached: isolation === 'none',
  });
  started = child;
  void halted.then(() => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      process.kill(isolation === 'none' ? -child.pid : child.pid, 'SIGKILL');
    }
  });
  try {
    // Rejects when the program could not be started at all.
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    return code ?? SIGNAL_STATUS_BASE + (signal === null ? 0 : constants.signals[signal]);
  } finally {
    for (const stop of forward) {
      stop();
    }
  }
}

/**
 * What this machine allows: a view made as root, a view in a user namespace, or none. Being root says
 * little, as root of a container often may not mount; so it is tried.
 * @throws Error where zexec is not built
 */
function isolationHere(): Isolation {
  if (!existsSync(ZEXEC)) {
    throw new Error(`${ZEXEC} is missing: npm run build`);
  }
  const works = (...flags: string[]) => {
    const argv = [...flags, '--root', '/', '--', 'true'];
    return spawnSync(ZEXEC, argv, { stdio: 'ignore' }).status === 0;
  };
  if (process.geteuid?.() === 0 && works()) {
    return 'root';
  }
  if (works('--user')) {
    return 'user';
  }
  process.stderr.write('simcn: namespaces are refused here: the command runs on the host\n');
  return 'none';
}

function zexecArgv(view: View, isolation: Isolation, argv: readonly string[]): string[] {
  const socketBind =
    isolation === 'user' && !view.mounted && view.mountPoint !== null
      ? ['--ro', view.socketDirectory, view.mountPoint]
      : [];
  return [
    ZEXEC,
    ...(isolation === 'user' ? ['--user'] : ['--ns', `/proc/${view.nodePid}/ns/mnt`]),
    ...view.binds.flatMap((b) => [b.writable ? '--rw' : '--ro', b.source, b.target]),
    ...socketBind,
    ...['--root', view.zoneroot, '--', ...argv],
  ];
}

function environment(view: View, isolation: Isolation): NodeJS.ProcessEnv {
  const { TERM, LANG } = process.env;
  const common = {
    ...(TERM ? { TERM } : {}),
    ...(LANG ? { LANG } : {}),
    SIMCN_ZONENAME: view.zonename,
    SIMCN_LOADER: isolation === 'none' ? '' : view.loader,
    SIMCN_ZONEROOT: isolation === 'none' ? view.zoneroot : '',
  };
  return isolation === 'none'
    ? {
        ...common,
        PATH: `${view.toolsDirectory}:${process.env.PATH ?? ''}`,
        HOME: view.zoneroot,
        MDATA_SOCKET: join(view.socketDirectory, 'metadata.sock'),
        SIMCN_NODE: process.execPath,
        SIMCN_PROJECT: PROJECT,
        ...(view.zfsDirectory === null
          ? {}
          : { SIMCN_ZFS: view.zfsDirectory, SIMCN_ZFS_PREFIX: view.root }),
      }
    : { ...common, PATH: view.path, HOME: '/root' };
}
