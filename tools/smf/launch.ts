/*
 * launch [--ctrun FILE] --root DIR --config FILE --pid-file FILE --wait SECONDS MAIN: starts the daemon in the
 * background and ends once it answers that it is healthy. The last step of the service's start method.
 *
 * With --ctrun (ctrun(1) of illumos) the daemon and its children get a process contract of their own, and the
 * one process that stays in the service's is ctrun, which ends when the daemon does (-l child, in main of
 * usr/src/cmd/ctrun/ctrun.c). So SMF sees the daemon end whatever children it leaves behind, and no child's end.
 * The children are not killed with it (no `-o noorphan`): a `vmadm update` that is cut in two harms the VM, and
 * the next daemon waits for the lock. ctrun needs no privilege: its critical events are no more than its fatal
 * ones and an empty contract (EXCESS in usr/src/uts/common/contract/process.c). Output goes where ours goes, the
 * service's log.
 *
 * Exit 0: the daemon serves, and it is the one that was started: its answer gives its process id. Where another
 * mdatad has the admin socket, nothing is started, the pid file stays, and the exit code is 1. When it ends before
 * that, its exit code is ours: 95, 96 and 100 mean the same to SMF. When it is not healthy in time it is killed, and
 * the exit code is 1, on which SMF starts it again.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { Command } from 'commander';
import { Paths } from '../../src/platform/paths';
import { askHealth, askPid, awaitHealth, awaitPid } from './health';

const EXIT_NOT_HEALTHY = 1;
const EXIT_NOT_ALONE = 1;
/** A daemon that is healthy, but has all zones to go through, tells its process id within this. */
const PID_MS = 10_000;

/** Writes its own process id, which exec keeps, and becomes the daemon. */
const WRITE_PID_AND_EXEC = 'echo $$ >"$0" && exec "$@"';

interface Options {
  readonly ctrun?: string;
  readonly root: string;
  readonly config: string;
  readonly pidFile: string;
  readonly wait: number;
}

async function main(): Promise<void> {
  const command = new Command('launch')
    .option('--ctrun <file>')
    .requiredOption('--root <dir>')
    .requiredOption('--config <file>')
    .requiredOption('--pid-file <file>')
    .option('--wait <seconds>', 'for the daemon to be healthy', Number, 50)
    .argument('<main>')
    .parse();
  const options = command.opts<Options>();
  process.exitCode = await launch(command.args[0] ?? '', options);
}

async function launch(mainFile: string, options: Options): Promise<number> {
  const { ctrun, root, config, pidFile } = options;
  const { adminSocket } = new Paths(root);
  if ((await askHealth(adminSocket)).listening) {
    const pid = (await askPid(adminSocket)) ?? 'unknown, as it does not answer';
    say(`another mdatad has ${adminSocket}: end it first (its process id: ${pid})`);
    return EXIT_NOT_ALONE;
  }
  const inContract = ctrun === undefined ? [] : [ctrun, '-l', 'child'];
  const [program = '', ...args] = [
    ...inContract,
    ...['/bin/sh', '-c', WRITE_PID_AND_EXEC, pidFile, process.execPath],
    ...[mainFile, '--root', root, '--config', config],
  ];
  rmSync(pidFile, { force: true });
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
    cwd: '/',
    // As flags they would push the daemon's own path out of the 80 bytes of arguments that ps(1) shows on illumos
    // (PRARGSZ in usr/src/uts/common/sys/procfs.h), by which people know it.
    env: { ...process.env, NODE_OPTIONS: nodeFlags().join(' ') },
  });
  const ended = once(child, 'exit');
  const gone = new AbortController();
  void ended.then(() => gone.abort());
  const end = Date.now() + options.wait * 1000;
  const { healthy, answer } = await awaitHealth(adminSocket, end - Date.now(), gone.signal);
  const patience = Math.max(end - Date.now(), PID_MS);
  const answering = healthy ? await awaitPid(adminSocket, patience, gone.signal) : null;
  if (child.exitCode !== null || child.signalCode !== null) {
    const how = child.signalCode ?? `exit code ${child.exitCode ?? ''}`;
    say(`mdatad ended before it was ready: ${how}`);
    return child.exitCode === 0 ? EXIT_NOT_HEALTHY : (child.exitCode ?? EXIT_NOT_HEALTHY);
  }
  const pid = pidIn(pidFile);
  if (!healthy || pid === null || answering !== pid) {
    say(
      healthy ? whoAnswers(answering, pid) : `mdatad was not ready in ${options.wait} s: ${answer}`,
    );
    // Only the daemon, as a vmadm at work must not be cut in two; all that was started while it is none yet.
    killNow(pid ?? -(child.pid ?? process.pid));
    await ended;
    return EXIT_NOT_HEALTHY;
  }
  child.unref();
  return 0;
}

function whoAnswers(answering: number | null, started: number | null): string {
  return answering === null || started === null
    ? 'mdatad was started, and does not tell its process id'
    : `process ${answering} answers in the place of the mdatad that was started, ${started}`;
}

/** Null where there is none: 0 would mean our own process group to kill(2). */
function pidIn(pidFile: string): number | null {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    return Number.isInteger(pid) && pid > 0 ? pid : null;
  } catch {
    // Not written yet.
    return null;
  }
}

/** @param target a process, or a negative number for its group */
function killNow(target: number): void {
  try {
    process.kill(target, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function say(message: string): void {
  process.stderr.write(`launch: ${message}\n`);
}

/** An assertion that fails leaves a core beside the restart, and no signal opens an inspector. */
function nodeFlags(): string[] {
  const noInspector = '--disable-sigusr1';
  const known = process.allowedNodeEnvironmentFlags.has(noInspector);
  return ['--abort-on-uncaught-exception', ...(known ? [noInspector] : [])];
}

void main();
