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
 * Exit 0: the daemon serves. When it ends before that, its exit code is ours: 95, 96 and 100 mean the same to
 * SMF. When it is not healthy in time it is killed, and the exit code is 1, on which SMF starts it again.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { Command } from 'commander';
import { Paths } from '../../src/platform/paths';
import { awaitHealth } from './health';

const EXIT_NOT_HEALTHY = 1;

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
    // As flags they would push the daemon's own path out of the 80 bytes that ps(1) shows on illumos
    // (PRARGSZ in usr/src/uts/common/sys/procfs.h), by which the stop method knows it.
    env: { ...process.env, NODE_OPTIONS: nodeFlags().join(' ') },
  });
  const ended = once(child, 'exit');
  const gone = new AbortController();
  void ended.then(() => gone.abort());
  const { adminSocket } = new Paths(root);
  const { healthy, answer } = await awaitHealth(adminSocket, options.wait * 1000, gone.signal);
  if (child.exitCode !== null || child.signalCode !== null) {
    const how = child.signalCode ?? `exit code ${child.exitCode ?? ''}`;
    process.stderr.write(`launch: mdatad ended before it was ready: ${how}\n`);
    return child.exitCode === 0 ? EXIT_NOT_HEALTHY : (child.exitCode ?? EXIT_NOT_HEALTHY);
  }
  if (!healthy) {
    process.stderr.write(`launch: mdatad was not ready in ${options.wait} s: ${answer}\n`);
    process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL');
    await ended;
    return EXIT_NOT_HEALTHY;
  }
  child.unref();
  return 0;
}

/** An assertion that fails leaves a core beside the restart, and no signal opens an inspector. */
function nodeFlags(): string[] {
  const noInspector = '--disable-sigusr1';
  const known = process.allowedNodeEnvironmentFlags.has(noInspector);
  return ['--abort-on-uncaught-exception', ...(known ? [noInspector] : [])];
}

void main();
