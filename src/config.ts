/*
 * The daemon's configuration: one JSON file with comments, checked whole before anything starts; and its options. The
 * only place that reads process.env.
 *
 * On SmartOS the start method writes the file from the service's SMF property group. Every member is optional; an
 * unknown one is refused, since a misspelt limit that is silently ignored is noticed too late.
 */
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { codeOf, describeError, messageOf, RemediedError, remedyFor } from './lib/errors';
import {
  either,
  flag,
  list,
  members,
  number,
  oneOf,
  optional,
  parseCommentedJson,
  problemsIn,
  removed,
  text,
  whole,
} from './lib/json-reader';
import { packageVersion } from './lib/version';
import { DEFAULT_LINK_LIMITS } from './transport/link';
import { DEFAULT_LOG_QUOTA } from './log';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;

const VMINFOD_URL = /^(http:\/\/[^/]+|unix:\/.+)$/;
const VMINFOD_URL_NEEDED = 'http://HOST:PORT or unix:/PATH is needed';
const MIB = 1024 * 1024;
/** What a guest may write must stay readable, and an event of vminfod's with all of it be below 32 MiB. */
const MOST_METADATA_BYTES = 12 * MIB;
const MOST_FILE_BYTES = 24 * MIB;

const MOST_READERS = 64;
const readUserId = whole(1, 2 ** 31 - 1);
/** A number, or digits as SMF's lists have them. Root needs no entry. */
const userId = (id: unknown): number =>
  readUserId(typeof id === 'string' && /^\d{1,10}$/.test(id) ? Number(id) : id);

const readLimits = members({
  /** Longest request line. */
  line_bytes: either(whole(4096, 64 * MIB), DEFAULT_LINK_LIMITS.lineBytes),
  /** Replies that the peers of a zone have not read yet. */
  unsent_bytes: either(whole(4096, 64 * MIB), DEFAULT_LINK_LIMITS.replyBytes),
  /** Requests that wait for their answer on one connection. */
  queued_requests: either(whole(1, 4096), DEFAULT_LINK_LIMITS.queuedRequests),
  /** Open connections of one zone. */
  connections: either(whole(1, 4096), DEFAULT_LINK_LIMITS.connections),
  /** A silent connection of a zone socket is closed after this. */
  idle_seconds: either(number(1, 86400), 600),
  /** Writes of one zone on the long run, and at once. */
  writes_per_second: either(number(1, 10000), 20),
  write_burst: either(whole(1, 10000), 100),
  /** What a guest can write of its metadata: names and values as JSON; and how many keys. */
  metadata_bytes: either(whole(1024, MOST_METADATA_BYTES), 4 * MIB),
  metadata_keys: either(whole(1, 16384), 1024),
  /** A metadata file as a whole, the operator's data included, that a guest's write may leave. */
  metadata_file_bytes: either(whole(MIB, MOST_FILE_BYTES), 16 * MIB),
  /** Log records of one zone on the long run, and at once. */
  records_per_second: either(number(1, 10000), DEFAULT_LOG_QUOTA.perSecond),
  record_burst: either(whole(1, 100000), DEFAULT_LOG_QUOTA.burst),
  /** Bytes of the log that one zone may write, on the long run; 16 times as much at once. */
  log_bytes_per_second: either(whole(1024, 64 * MIB), DEFAULT_LOG_QUOTA.bytesPerSecond),
});

const readDatasets = members({
  /** Turns the "safe" policy of delegated datasets off as a whole. */
  enabled: either(flag(), true),
  /** Who may use it: owner uuids. Absent: everyone. */
  owners: optional(list(text())),
  /** Whose zones may hold a plain delegated dataset: the audit accepts them. Absent: see SafePolicy. */
  plain_owners: optional(list(text())),
});

const readConfig = members({
  log_level: either(oneOf(LOG_LEVELS), 'info'),
  /** `http://HOST:PORT` or `unix:/path`. Absent: the platform's. */
  vminfod: optional(text(VMINFOD_URL, VMINFOD_URL_NEEDED)),
  /** How guests' changes reach metadata.json: by our own writer, or through `vmadm update`. */
  writer: either(oneOf(['file', 'vmadm']), 'file'),
  /** Writes again, once, what a `vmadm update` has undone from a copy of vminfod's that was old. */
  restore_undone_writes: either(flag(), true),
  /** Lets guests PUT operator-script, as the platform's own agent does. They may always DELETE it. */
  operator_script_writable: either(flag(), false),
  /** Stores the empty value of a PUT, which is refused otherwise, as by the platform's own agent. */
  store_empty_values: either(flag(), false),
  /**
   * User ids besides root's whose processes in a zone may read its metadata (GET and KEYS), for images that
   * let an ordinary user do so.
   */
  readers: optional(list(userId, MOST_READERS)),
  /** How often the zones are compared with what events said. */
  reconcile_seconds: either(number(1, 3600), 60),
  /** A loopback port for Prometheus besides the admin socket. */
  metrics_port: optional(whole(1, 65535)),
  limits: readLimits,
  datasets: readDatasets,
  mount_running_zones: removed(
    'processes of a running zone can lead a mount out of it; reboot the zone instead',
  ),
});

export type Config = ReturnType<typeof readConfig>;

const CORRECT_IT = 'correct it, then check it: mdatad --check-config --config FILE';

/** The configuration cannot be used; the message names the file and says why. */
export class ConfigError extends RemediedError {
  constructor(message: string, remedy = CORRECT_IT) {
    super(message, remedy);
    this.name = 'ConfigError';
  }
}

/** Parses a configuration that was read from `source`; throws a ConfigError that names each bad member. */
export function parseConfig(json: string, source: string): Config {
  let value: unknown;
  try {
    value = parseCommentedJson(json);
  } catch (err) {
    throw new ConfigError(`${source}: not JSON: ${messageOf(err)}`);
  }
  try {
    return readConfig(value);
  } catch (err) {
    throw new ConfigError(`${source}: ${problemsIn(err)}`);
  }
}

/** Reads and parses a configuration file; without a path, all defaults. */
export function loadConfig(path: string | undefined): Config {
  if (path === undefined) {
    return parseConfig('{}', 'defaults');
  }
  let json: string;
  try {
    json = readFileSync(path, 'utf8');
  } catch (err) {
    const remedy = remedyFor(codeOf(err), path);
    throw new ConfigError(`${path}: cannot be read: ${describeError(err)}`, remedy);
  }
  return parseConfig(json, path);
}

/** Members that a reload changes; all others are read only when the agent, or a zone's part of it, is made. */
const RELOADED: readonly string[] = [
  ...['log_level', 'operator_script_writable', 'store_empty_values', 'datasets', 'limits'],
  ...['limits.line_bytes', 'limits.unsent_bytes', 'limits.queued_requests'],
  ...['limits.connections', 'limits.idle_seconds'],
];

/** The members that differ and take effect only with a new start of the agent. */
export function needingRestart(before: Config, after: Config): string[] {
  const different = [
    ...differing(before, after),
    ...differing(before.limits, after.limits).map((name) => `limits.${name}`),
  ];
  return different.filter((name) => !RELOADED.includes(name));
}

function differing<T extends object>(before: T, after: T): string[] {
  const old = new Map<string, unknown>(Object.entries(before));
  return Object.entries(after)
    .filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(old.get(name)))
    .map(([name]) => name);
}

/** The URL of vminfod as the command line gives it; throws a ConfigError. */
export function parseVminfodUrl(url: string): string {
  if (!VMINFOD_URL.test(url)) {
    throw new ConfigError(`--vminfod ${url}: ${VMINFOD_URL_NEEDED}`, 'see mdatad(8)');
  }
  return url;
}

/** More than the writers of files take (writes/file-writer.ts), so that some are left whatever the disks do. */
export const POOL_THREADS = 24;

/**
 * Gives the process more threads for file operations than libuv's four: one that waits for a zone's hung disk
 * is lost to all others for so long. To be called before any is used, as that starts them all.
 */
export function widenThreadPool(): void {
  process.env.UV_THREADPOOL_SIZE ??= String(POOL_THREADS);
}

/** For a process of ours that is to run as this one does: its libraries are found by the environment. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env };
}

/** The alternate root to work below, unless `--root` gives it. `/` only where the platform is real. */
export function defaultRoot(): string | undefined {
  const { MDATAD_ROOT: root = '' } = process.env;
  const real = process.platform === 'sunos' ? '/' : undefined;
  return root === '' ? real : root;
}

/** The options of mdatad, for main.ts and the shells' completion. Help, version and errors are printed, and thrown as a CommanderError. */
export function mdatadCommand(): Command {
  return new Command('mdatad')
    .description('the metadata agent of a SmartOS global zone')
    .version(packageVersion(), '--version', 'print the version')
    .option('--root <dir>', 'the root of the compute node (or MDATAD_ROOT)', defaultRoot())
    .option('--config <file>', 'configuration, JSON')
    .addOption(new Option('--log-level <level>', 'least level to log').choices(LOG_LEVELS))
    .option('--vminfod <url>', 'vminfod: http://HOST:PORT or unix:/PATH')
    .option('--check-config', 'check the configuration and exit')
    .exitOverride();
}
