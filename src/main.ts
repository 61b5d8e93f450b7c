#!/usr/bin/env node
/*
 * mdatad: the daemon's command line, its signals and its exit codes. The only file that ends the process. A bug of ours
 * is not caught: the process dies with the exception in the log, and SMF restarts it.
 */
import { exitAtOnce, letHeapGrow } from './platform/process';
import { fstatSync } from 'node:fs';
import { resolve } from 'node:path';
import { CommanderError } from 'commander';
import { Agent } from './agent';
import {
  ConfigError,
  loadConfig,
  mdatadCommand,
  parseVminfodUrl,
  widenThreadPool,
  type Config,
} from './config';
import { codeOf, explain, RemediedError, remedyOf } from './lib/errors';
import { createLogger, LogSink, type Level, type Logger } from './log';

/** smf_method(7) */
const EXIT_OK = 0;
const EXIT_FATAL = 95;
const EXIT_CONFIG = 96;
const EXIT_PERMISSION = 100;

/** Pending requests are answered within this; SMF's own timeout is longer. */
const STOP_GRACE_MS = 4000;
/** Whatever hangs then, the process ends: 5 s are promised. */
const LAST_MS = 4800;

const STDOUT_FD = 1;

interface Options {
  readonly root: string | undefined;
  readonly config: string | undefined;
  readonly logLevel: Level | undefined;
  readonly vminfod: string | undefined;
  readonly checkConfig: boolean | undefined;
}

/** The configuration as file and command line together give it: the command line wins. */
function effectiveConfig(options: Options): Config {
  const config = loadConfig(options.config);
  return {
    ...config,
    ...(options.logLevel === undefined ? {} : { log_level: options.logLevel }),
    ...(options.vminfod === undefined ? {} : { vminfod: parseVminfodUrl(options.vminfod) }),
  };
}

async function run(options: Options, root: string): Promise<void> {
  const config = effectiveConfig(options);
  const sink = new LogSink(STDOUT_FD);
  const log = createLogger(config.log_level, sink);
  const end = (code: number): never => {
    sink.flushSync();
    // A thread of the pool may wait for a hung disk, of which nothing tells for sure.
    return exitAtOnce(code);
  };
  process.on('uncaughtExceptionMonitor', (err) => {
    log.fatal({ err }, 'uncaught exception');
    sink.flushSync();
  });

  let agent: Agent;
  try {
    agent = new Agent(root, config, log, () => sink.lostRecords);
  } catch (err) {
    return end(cannotStart(err, log));
  }
  const stop = (signal: string): void => {
    if (agent.phase() === 'stopping') {
      return;
    }
    log.info({ signal }, 'stopping');
    setTimeout(() => {
      log.error('something hangs, exiting without it');
      end(EXIT_OK);
    }, LAST_MS).unref();
    void agent.stop(STOP_GRACE_MS).then(() => {
      log.info('Agent exiting');
      end(EXIT_OK);
    });
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('SIGHUP', () => reload(agent, options, log));
  try {
    await agent.start();
    letHeapGrow();
  } catch (err) {
    if (agent.phase() !== 'stopping') {
      const code = cannotStart(err, log);
      await agent.stop(0);
      end(code);
    }
  }
}

/** Says why once in each place: a terminal gets the text, a log the record, and SMF's log, which is both, no text. */
function cannotStart(err: unknown, log: Logger): number {
  if (!process.stdout.isTTY) {
    const remedy = remedyOf(err);
    log.fatal({ err, ...(remedy !== '' && { remedy }) }, 'cannot start');
  }
  if (process.stdout.isTTY || !isSameFile(process.stdout.fd, process.stderr.fd)) {
    process.stderr.write(explain('mdatad: cannot start', err));
  }
  return ['EPERM', 'EACCES'].includes(codeOf(err)) ? EXIT_PERMISSION : EXIT_FATAL;
}

/** False where one of them cannot be asked, as when it is closed. */
function isSameFile(a: number, b: number): boolean {
  try {
    const [one, other] = [fstatSync(a), fstatSync(b)];
    return one.dev === other.dev && one.ino === other.ino;
  } catch {
    // Then nothing is in that place, and said there in vain at worst.
    return false;
  }
}

/** A bad new configuration leaves the old one in force: a running agent is worth more than a new limit. */
function reload(agent: Agent, options: Options, log: Logger): void {
  try {
    agent.reload(effectiveConfig(options));
    log.info('configuration reloaded');
  } catch (err) {
    if (!(err instanceof ConfigError)) {
      throw err;
    }
    log.error({ err }, 'configuration not reloaded, the old one stays in force');
  }
}

function refuse(code: number, why: Error): void {
  process.stderr.write(explain('mdatad', why));
  process.exitCode = code;
}

async function main(): Promise<void> {
  widenThreadPool();
  try {
    const command = mdatadCommand();
    command.parse(process.argv);
    const options = command.opts<Options>();
    if (options.checkConfig === true) {
      effectiveConfig(options);
      process.stdout.write('mdatad: configuration OK\n');
    } else if (options.root === undefined) {
      const remedy = 'simcn up --root DIR makes a node there';
      throw new ConfigError('--root DIR is needed off SmartOS', remedy);
    } else if (resolve(options.root) === '/' && process.geteuid?.() !== 0) {
      const remedy = 'become root (pfexec, sudo), or serve a simulated node: --root DIR';
      refuse(EXIT_PERMISSION, new RemediedError('only root can serve a real node', remedy));
    } else {
      await run(options, resolve(options.root));
    }
  } catch (err) {
    if (err instanceof ConfigError) {
      refuse(EXIT_CONFIG, err);
    } else if (err instanceof CommanderError) {
      // commander has printed what was wrong; help and version are no error.
      process.exitCode = err.exitCode === 0 ? EXIT_OK : EXIT_CONFIG;
    } else {
      throw err;
    }
  }
}

void main();
