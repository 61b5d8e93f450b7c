/*
 * launch --root DIR --config FILE --pid-file FILE --wait SECONDS MAIN: starts the daemon in the
 * background and ends when it answers that it is well. The last step of the service's start method.
 *
 * The daemon stays in the contract of whoever runs this, so SMF sees it die; its output goes where
 * ours goes, the service's log. Exit 0: it serves. When it ends before that, its exit code is ours:
 * 95, 96 and 100 mean the same to SMF. When it is not well in time it is ended, and the exit code is 1,
 * on which SMF tries again.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { Paths } from '../../src/platform/paths';
import { awaitHealth } from './health';

const EXIT_NOT_WELL = 1;

interface Options {
  readonly root: string;
  readonly config: string;
  readonly pidFile: string;
  readonly wait: number;
}

async function main(): Promise<void> {
  const command = new Command('launch')
    .requiredOption('--root <dir>')
    .requiredOption('--config <file>')
    .requiredOption('--pid-file <file>')
    .option('--wait <seconds>', 'for the daemon to be well', Number, 50)
    .argument('<main>')
    .parse();
  const options = command.opts<Options>();
  process.exitCode = await launch(command.args[0] ?? '', options);
}

async function launch(mainFile: string, options: Options): Promise<number> {
  const { root, config } = options;
  // An assertion that fails leaves a core beside the restart.
  const flags = ['--abort-on-uncaught-exception', mainFile, '--root', root, '--config', config];
  const daemon = spawn(process.execPath, flags, {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
    cwd: '/',
  });
  const ended = once(daemon, 'exit');
  const gone = new AbortController();
  void ended.then(() => gone.abort());
  writeFileSync(options.pidFile, `${daemon.pid ?? ''}\n`);
  const { adminSocket } = new Paths(root);
  const { well, words } = await awaitHealth(adminSocket, options.wait * 1000, gone.signal);
  if (daemon.exitCode !== null || daemon.signalCode !== null) {
    const how = daemon.signalCode ?? `exit code ${daemon.exitCode ?? ''}`;
    process.stderr.write(`launch: mdatad ended before it was ready: ${how}\n`);
    return daemon.exitCode === 0 ? EXIT_NOT_WELL : (daemon.exitCode ?? EXIT_NOT_WELL);
  }
  if (!well) {
    process.stderr.write(`launch: mdatad was not ready in ${options.wait} s: ${words}\n`);
    daemon.kill('SIGKILL');
    await ended;
    return EXIT_NOT_WELL;
  }
  daemon.unref();
  return 0;
}

void main();
