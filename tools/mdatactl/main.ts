#!/usr/bin/env node
/*
 * mdatactl: the operators' command line. Asks the running agent and shows what it says.
 *
 * What is asked and how it is shown is in the files beside this one; here are the commands, their options, and the
 * exit status.
 */
import { Argument, Command, CommanderError, Option } from 'commander';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { compare, exitOfCompare } from './compare';
import type { Verdict } from '../../src/admin/doctor-context';
import type { HealthState } from '../../src/admin/health';
import { packageVersion } from '../../src/lib/version';
import { CHECK_NAMES, exitOfPreflight, preflight } from '../preflight/preflight';
import { NOTIFY_STATES } from '../../src/admin/node';
import {
  ConfigError,
  defaultRoot,
  loadConfig,
  LOG_LEVELS,
  mdatadCommand,
  parseVminfodUrl,
} from '../../src/config';
import { expandPayload, platformStamp, policyOf, type SafePolicy } from '../../src/datasets/policy';
import { explain, RemediedError } from '../../src/lib/errors';
import { Paths } from '../../src/platform/paths';
import { completionScript, SHELLS, type Shell } from '../completion';
import { completed, MDATA_PROGRAMS, type Completed } from '../completed';
import { Client, ControlError, findZone, findZoneOrNew } from './client';
import { getKey } from './get';
import { withHints } from './hints';
import { ListingError } from '../listing';
import { screenOf, type Screen } from '../screen';
import { count, interval, listed, listingOf, since, type ListOptions } from './options';
import { follow, recordLine, type FollowOptions } from './records';
import { DATASET_FIELD_NAMES, showDatasets } from './show-datasets';
import { showCompare, showDoctor, showPreflight } from './show-checks';
import { showStatus } from './show-status';
import { KEY_FIELD_NAMES, showKeys, showZone, showZones, ZONE_FIELD_NAMES } from './show-zones';
import { runTop, SORT_KEYS, TOP_FIELD_NAMES, type SortKey } from './top';

const EXIT_OK = 0;
const EXIT_LESS = 1;
const EXIT_FAILED = 2;
const EXIT_USAGE = 3;
/** Of status alone. */
const EXIT_DEGRADED = 3;
const EXIT_NOT_THERE = 4;
const EXIT_OF_HEALTH: Readonly<Record<HealthState, number>> = {
  ...{ ok: EXIT_OK, degraded: EXIT_DEGRADED, failed: EXIT_NOT_THERE },
};
const EXIT_OF_VERDICT: Readonly<Record<Verdict, number>> = {
  ...{ ok: EXIT_OK, skip: EXIT_OK, warn: EXIT_LESS, fail: EXIT_FAILED },
};

const HELP = `
UUID is a zone's uuid or name, its alias, or the beginning of its uuid.

Exit status:
  0  done; status, doctor, preflight: all is well; get: found
  1  doctor, preflight: warnings; get, notify: not found; datasets expand: refused
  2  failed, or the agent is not there; doctor: something is broken;
     preflight: a check failed; compare: a difference that is not documented
  3  wrong usage; status: degraded
  4  status: failed, or the agent is not there

Examples:
  mdatactl preflight                    will it run on this node? (needs no agent)
  mdatactl compare                      will guests get the same answers as now?
  mdatactl status                       is the agent healthy?
  mdatactl zones --unhealthy            which zones are not healthy, and why?
  mdatactl doctor UUID                  why does this zone get no metadata?
  mdatactl zones --json | json -a -c 'this.errors > 0' zonename errors
  mdatactl top                          which zones are busy, now?
  mdatactl tail UUID                    what does this guest ask for, now?
  mdatactl tail -n 20 --level warn      what went wrong last?
  mdatactl keys UUID                    what is in its metadata?
  mdatactl get UUID root_authorized_keys`;

interface TopFlags {
  readonly sort: SortKey;
  readonly interval: number;
  readonly screens?: number;
  readonly fields?: string;
}

interface Options {
  readonly root?: string;
  readonly json?: true;
}

/** The columns of `zones --unhealthy`. */
const UNHEALTHY_FIELDS = 'zone,alias,brand,state,health,reasons';

/** Options of `tail`. */
type TailFlags = Omit<FollowOptions, 'zonename'>;

/** What a command works with. */
interface Session {
  readonly client: Client;
  readonly root: string;
  readonly json: boolean;
  readonly screen: Screen;
  readonly now: number;
}

class UsageError extends RemediedError {}

function sessionOf(command: Command): Session {
  const { root = defaultRoot(), json } = command.optsWithGlobals<Options>();
  if (root === undefined) {
    const remedy = 'name the root that simcn up was given, or set MDATAD_ROOT';
    throw new UsageError('--root DIR is needed off SmartOS', remedy);
  }
  return {
    client: new Client(new Paths(resolve(root)).adminSocket),
    root: resolve(root),
    json: json === true,
    screen: screenOf(process.stdout, process.env),
    now: Date.now(),
  };
}

/** The command line. @param finish is called with the exit status before anything is printed */
export function makeProgram(finish: (status: number) => void): Command {
  const program = new Command('mdatactl')
    .description('Shows and controls the metadata agent of this node')
    .exitOverride()
    .showHelpAfterError('(mdatactl --help lists the commands)')
    .addHelpText('after', HELP);

  /** Options may stand before the command or behind it. */
  const options = (command: Command): Command =>
    command
      .option('--root <dir>', 'the root of the compute node (or MDATAD_ROOT)')
      .option('--json', 'print JSON, for scripts')
      .exitOverride();
  const withVersion = (command: Command): Command =>
    command.version(packageVersion(), '--version', 'print the version');
  const add = (usage: string, description: string): Command =>
    withVersion(options(program.command(usage).description(description)));
  withVersion(options(program));

  add('status', 'the agent in one screen').action(async (_options, command: Command) => {
    const session = sessionOf(command);
    const status = await session.client.ask('status', { path: '/status' }).catch((err: unknown) => {
      throw err instanceof ControlError
        ? new ControlError(err.message, err.help, EXIT_NOT_THERE)
        : err;
    });
    finish(EXIT_OF_HEALTH[status.health.state]);
    print(session, status, () => showStatus(status, session.screen));
  });

  listed(add('zones', 'one line a zone'))
    .option('--unhealthy', 'only zones that are not healthy, with the reasons')
    .action(async (own: ListOptions & { unhealthy?: true }, command: Command) => {
      const session = sessionOf(command);
      const only = own.unhealthy === true;
      const all = await session.client.ask('zones', { path: '/zones' });
      const zones = only ? all.filter(({ health }) => health !== 'ok') : all;
      const listing = listingOf({ ...(only && { fields: UNHEALTHY_FIELDS }), ...own });
      print(session, zones, () => showZones(zones, listing, session.screen, session.now, only));
    });

  add('zone <uuid>', 'everything about one zone').action(
    async (uuid: string, _options, command: Command) => {
      const session = sessionOf(command);
      const path = `/zones/${await findZone(session.client, uuid)}`;
      const zone = withHints(await session.client.ask('zone', { path }));
      print(session, zone, () => showZone(zone, session.screen, session.now));
    },
  );

  listed(add('keys <uuid>', 'names and lengths of its metadata, no values')).action(
    async (uuid: string, own: ListOptions, command: Command) => {
      const session = sessionOf(command);
      const path = `/keys/${await findZone(session.client, uuid)}`;
      const keys = await session.client.ask('keys', { path });
      print(session, keys, () => showKeys(keys, listingOf(own), session.screen));
    },
  );

  add('get <uuid> <key>', 'ask for a key as the guest would, through its socket')
    .option('--show-value', 'print the value too: it may be a password')
    .action(async (uuid: string, key: string, own: { showValue?: true }, command: Command) => {
      const session = sessionOf(command);
      const path = `/zones/${await findZone(session.client, uuid)}`;
      const zone = await session.client.ask('zone', { path });
      const got = await getKey(zone, key, own.showValue === true, complain);
      finish(got.found ? EXIT_OK : EXIT_LESS);
      print(session, got, () => [
        got.found
          ? (got.value ??
            got.value_base64 ??
            `found, ${got.length ?? 0} bytes (--show-value prints it)`)
          : `not found: ${key}`,
      ]);
    });

  add('doctor [uuid]', 'check the whole chain of a zone, or of all, and say where it breaks')
    .option('--all', 'every step, also of healthy zones')
    .action(async (uuid: string | undefined, own: { all?: true }, command: Command) => {
      const session = sessionOf(command);
      const path = uuid === undefined ? '' : `/${await findZone(session.client, uuid)}`;
      const report = await session.client.ask('doctor', { path: `/doctor${path}`, long: true });
      const whole = uuid !== undefined || own.all === true;
      finish(EXIT_OF_VERDICT[report.verdict]);
      print(session, report, () => showDoctor(report, whole, session.screen));
    });

  add('top', 'the busiest zones, live')
    .addOption(new Option('--sort <by>', 'what to sort by').choices(SORT_KEYS).default('requests'))
    .option('--interval <seconds>', 'time between two screens', interval, 2)
    .option('-n, --screens <n>', 'end after so many screens', count)
    .option('-o, --fields <names>', 'which columns, separated by commas')
    .action(async (own: TopFlags, command: Command) => {
      const session = sessionOf(command);
      // Without a terminal nobody can quit it: one screen then, unless more are asked for.
      const screens = own.screens ?? (process.stdout.isTTY ? undefined : 1);
      const { json } = session;
      const { sort, fields } = own;
      const options = { sort, intervalMs: own.interval * 1000, screens, fields, json };
      await runTop(session.client, options, () => screenOf(process.stdout, process.env));
    });
  const onNode = (usage: string, description: string): Command =>
    add(usage, description).option(
      '--vminfod <url>',
      'vminfod: http://HOST:PORT or unix:/PATH',
      parseVminfodUrl,
    );
  onNode('preflight', 'prove what mdatad needs of this node; needs no daemon, changes nothing')
    .addOption(
      new Option('--check <name...>', 'make these checks only, by name').choices(CHECK_NAMES),
    )
    .action(async (own: { vminfod?: string; check?: string[] }, command: Command) => {
      const session = sessionOf(command);
      const { root } = session;
      const report = await untilSignalled((signal) =>
        preflight({ root, signal, only: own.check, vminfodUrl: own.vminfod }),
      );
      finish(exitOfPreflight(report));
      print(session, report, () => showPreflight(report, session.screen));
    });

  onNode('compare', 'ask the agent that serves now and our own handler the same, and compare')
    .option('--sample <n>', 'ask so many zones, spread over all', count)
    .action(async (own: { sample?: number; vminfod?: string }, command: Command) => {
      const session = sessionOf(command);
      const { sample, vminfod } = own;
      const options = {
        root: session.root,
        ...(sample && { sample }),
        ...(vminfod && { vminfodUrl: vminfod }),
      };
      const report = await untilSignalled((signal) => compare({ ...options, signal }));
      finish(exitOfCompare(report));
      print(session, report, () => showCompare(report, session.screen));
    });

  add('metrics', 'the metrics, as Prometheus reads them').action(
    async (_options, command: Command) => {
      const session = sessionOf(command);
      if (session.json) {
        const path = '/metrics?format=json';
        print(session, await session.client.ask('metrics', { path }), () => []);
      } else {
        process.stdout.write(await session.client.text({ path: '/metrics' }));
      }
    },
  );

  add('log-level', 'print the level of the log, or set it until the agent ends')
    .addArgument(new Argument('[level]', 'the level from now on').choices(LOG_LEVELS))
    .action(async (level: string | undefined, _options, command: Command) => {
      const session = sessionOf(command);
      const path = '/log-level';
      const reply = await session.client.ask(
        'level',
        level === undefined ? { path } : { method: 'PUT', path, body: { level } },
      );
      const { previous } = reply;
      print(session, reply, () => [
        previous === undefined ? reply.level : `${reply.level} (was ${previous})`,
      ]);
    });

  add('tail [uuid]', 'log records as they come, until interrupted')
    .option('-n, --lines <count>', 'begin with so many of the last records', count)
    .option('--since <time>', 'begin with the records since: 90s, 5m, 2h, or a time', since)
    .addOption(new Option('--level <level>', 'this level and above').choices(LOG_LEVELS))
    .option('--no-follow', 'end after those')
    .action(async (uuid: string | undefined, own: TailFlags, command: Command) => {
      const { client, screen: given, json } = sessionOf(command);
      const zone = uuid === undefined ? {} : { zonename: await findZone(client, uuid) };
      // In a pipe a line is searched, not read: it stays whole.
      const screen = process.stdout.isTTY ? given : { ...given, width: Infinity };
      await follow(client, { ...own, ...zone }, (record) => {
        console.log(json ? JSON.stringify(record) : recordLine(record, screen));
      });
    });

  add('notify <uuid>', 'tell the agent that something happened to a zone')
    .addArgument(new Argument('<state>', 'what the zone came to').choices(NOTIFY_STATES))
    .action(async (uuid: string, state: string, _options, command: Command) => {
      const session = sessionOf(command);
      const zonename = await findZoneOrNew(session.client, uuid);
      const question = { method: 'POST', path: '/notify', body: { zonename, state } } as const;
      const reply = await session.client.ask('notify', question);
      finish(reply.is === null && state !== 'deleted' ? EXIT_LESS : EXIT_OK);
      print(session, reply, () => [
        reply.is === null
          ? `${zonename}: no such zone on this node; nothing is served for it`
          : `${zonename}: you said ${state}, it is ${reply.is}`,
      ]);
    });

  withVersion(program.command('completion'))
    .description('print the completion of mdatactl and the mdata commands for a shell')
    .addArgument(
      new Argument('<shell>', 'source it: source <(mdatactl completion bash)').choices(SHELLS),
    )
    .exitOverride()
    .action((shell: Shell) => {
      process.stdout.write(completionScript(completedPrograms(program), shell));
    });

  const datasets = listed(
    add('datasets [uuid]', 'delegated datasets, and what the policy "safe" says of them'),
  ).action(async (uuid: string | undefined, own: ListOptions, command: Command) => {
    const session = sessionOf(command);
    const path = uuid === undefined ? '' : `/${await findZone(session.client, uuid)}`;
    const report = await session.client.ask('datasets', { path: `/datasets${path}`, long: true });
    print(session, report, () => showDatasets(report, listingOf(own), session.screen));
  });
  withVersion(options(datasets.command('expand')))
    .description('expand "delegate_dataset": "safe" of a payload on stdin')
    .option('--config <file>', 'take the policy from this file, not from the running agent')
    .action(async (own: { config?: string }, command: Command) => {
      const policy =
        own.config === undefined
          ? await runningPolicy(sessionOf(command).client)
          : policyOf(loadConfig(own.config).datasets);
      const expansion = expandPayload(
        payloadFrom(readFileSync(0, 'utf8')),
        policy,
        platformStamp(),
      );
      finish(expansion.kind === 'accepted' ? EXIT_OK : EXIT_LESS);
      const json = command.optsWithGlobals<Options>().json === true;
      if (json) {
        console.log(JSON.stringify(expansion, null, 2));
      } else if (expansion.kind === 'accepted') {
        console.log(JSON.stringify(expansion.payload, null, 2));
      } else {
        expansion.reasons.forEach(({ code, text }) => complain(`${code}: ${text}`));
      }
    });
  return program;
}

/** Everything that is completed on a node: mdatactl, the daemon, and the guests' commands. */
export function completedPrograms(mdatactl: Command): readonly Completed[] {
  const columns = {
    zones: ZONE_FIELD_NAMES,
    keys: KEY_FIELD_NAMES,
    datasets: DATASET_FIELD_NAMES,
    top: TOP_FIELD_NAMES,
  };
  const lists = Object.entries(columns).flatMap(([command, names]) =>
    ['--fields', '--sort'].map((flag) => [`${command} ${flag}`, names] as const),
  );
  const program = completed(mdatactl, {}, Object.fromEntries(lists));
  return [program, completed(mdatadCommand()), ...MDATA_PROGRAMS];
}

async function runningPolicy(client: Client): Promise<SafePolicy> {
  const { policy } = await client.ask('datasets', { path: '/datasets', long: true });
  return policy;
}

function payloadFrom(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text around the fault: a payload has passwords in it.
    throw new UsageError('stdin is not JSON', 'give a payload, as vmadm create takes it');
  }
}

/** Lets work undo what it did when it is interrupted. */
async function untilSignalled<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  process.on('SIGINT', abort).on('SIGTERM', abort);
  try {
    return await work(stop.signal);
  } finally {
    process.off('SIGINT', abort).off('SIGTERM', abort);
  }
}

function print(session: Session, value: unknown, lines: () => readonly string[]): void {
  const text = session.json ? [JSON.stringify(value, null, 2)] : lines();
  text.forEach((line) => console.log(line));
}

function complain(text: string): void {
  console.error(`mdatactl: ${text}`);
}

/** What the command ends with, as far as that is known. */
let wantedStatus = EXIT_OK;

async function main(): Promise<number> {
  try {
    const program = makeProgram((wanted) => (wantedStatus = wanted));
    await program.parseAsync(process.argv);
  } catch (err) {
    if (err instanceof CommanderError) {
      // commander has printed it. Asking for help is not a mistake.
      return err.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    }
    process.stderr.write(explain('mdatactl', err));
    if (err instanceof ControlError) {
      err.help.forEach((line) => console.error(`  ${line}`));
      return err.exit ?? EXIT_FAILED;
    }
    return err instanceof UsageError || err instanceof ConfigError || err instanceof ListingError
      ? EXIT_USAGE
      : EXIT_FAILED;
  }
  return wantedStatus;
}

if (require.main === module) {
  // Whoever reads our output may stop early (`| head`): that ends us, and is not an error. A script gets its answer.
  process.stdout.on('error', () => process.exit(wantedStatus));
  void main().then((status) => {
    process.exitCode = status;
  });
}
