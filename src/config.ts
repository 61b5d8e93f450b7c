/*
 * The daemon's configuration: one JSON file, checked whole before anything starts.
 *
 * On SmartOS the start method writes the file from the service's SMF property group; anyone may write
 * it by hand. Every member is optional. An unknown member is refused, since a misspelt limit that is
 * silently not there is found out too late. This is the only place that looks at process.env.
 */
import { readFileSync } from 'node:fs';
// The face of version 3: loading the other one takes 10 MiB and 40 ms of every start.
import { z } from 'zod/v3';
import { codeOf, messageOf } from './lib/errors';
import { DEFAULT_LINK_LIMITS } from './transport/link';
import { DEFAULT_LOG_QUOTA } from './log';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const;

const VMINFOD_URL = /^(http:\/\/[^/]+|unix:\/.+)$/;
const MIB = 1024 * 1024;
/** What a guest may write must stay readable, and an event of vminfod's with all of it be below 32 MiB. */
const MOST_METADATA_BYTES = 12 * MIB;
const MOST_FILE_BYTES = 24 * MIB;
const bytes = (least: number, most: number) => z.number().int().min(least).max(most);

const MOST_READERS = 64;
/** A number, or digits as SMF's lists have them. Root needs no entry. */
const userId = z.preprocess(
  (id) => (typeof id === 'string' && /^\d{1,10}$/.test(id) ? Number(id) : id),
  bytes(1, 2 ** 31 - 1),
);

const limitsSchema = z.strictObject({
  /** Longest request line. */
  line_bytes: bytes(4096, 64 * MIB).default(DEFAULT_LINK_LIMITS.lineBytes),
  /** Replies that the peers of a zone have not read yet. */
  unsent_bytes: bytes(4096, 64 * MIB).default(DEFAULT_LINK_LIMITS.replyBytes),
  /** Requests that wait for their answer on one connection. */
  queued_requests: bytes(1, 4096).default(DEFAULT_LINK_LIMITS.queuedRequests),
  /** Open connections of one zone. */
  connections: bytes(1, 4096).default(DEFAULT_LINK_LIMITS.connections),
  /** A silent connection of a zone socket is closed after this. */
  idle_seconds: z.number().min(1).max(86400).default(600),
  /** Writes of one zone on the long run, and at once. */
  writes_per_second: z.number().min(1).max(10000).default(20),
  write_burst: bytes(1, 10000).default(100),
  /** What a guest can write of its metadata: names and values as JSON; and how many keys. */
  metadata_bytes: bytes(1024, MOST_METADATA_BYTES).default(4 * MIB),
  metadata_keys: bytes(1, 16384).default(1024),
  /** A metadata file as a whole, the operator's data included, that a guest's write may leave. */
  metadata_file_bytes: bytes(MIB, MOST_FILE_BYTES).default(16 * MIB),
  /** Log records of one zone on the long run, and at once. */
  records_per_second: z.number().min(1).max(10000).default(DEFAULT_LOG_QUOTA.perSecond),
  record_burst: bytes(1, 100000).default(DEFAULT_LOG_QUOTA.burst),
  /** Bytes of the log that one zone may write, on the long run; 16 times as much at once. */
  log_bytes_per_second: bytes(1024, 64 * MIB).default(DEFAULT_LOG_QUOTA.bytesPerSecond),
});

const datasetsSchema = z.strictObject({
  /** Turns the "safe" policy of delegated datasets off as a whole. */
  enabled: z.boolean().default(true),
  /** Who may use it: owner uuids. Absent: everyone. */
  owners: z.array(z.string()).optional(),
  /** Whose zones may hold a plain delegated dataset: the audit lets them be. Absent: see SafePolicy. */
  plain_owners: z.array(z.string()).optional(),
});

const configSchema = z.strictObject({
  log_level: z.enum(LOG_LEVELS).default('info'),
  /** `http://HOST:PORT` or `unix:/path`. Absent: the platform's. */
  vminfod: z.string().regex(VMINFOD_URL, 'wants http://HOST:PORT or unix:/PATH').optional(),
  /** How guests' changes reach metadata.json: by our own writer, or through `vmadm update`. */
  writer: z.enum(['file', 'vmadm']).default('file'),
  /** Writes again, once, what a `vmadm update` has undone from a copy of vminfod's that was old. */
  restore_undone_writes: z.boolean().default(true),
  /** Lets guests PUT operator-script, as the platform's own agent does. They may always DELETE it. */
  operator_script_writable: z.boolean().default(false),
  /** Stores the empty value of a PUT, which is refused otherwise, as by the platform's own agent. */
  store_empty_values: z.boolean().default(false),
  /**
   * User ids besides root's whose processes in a zone may read its metadata (GET and KEYS), for images that
   * let an ordinary user do so.
   */
  readers: z.array(userId).max(MOST_READERS).optional(),
  /** How often the zones are compared with what events told. */
  reconcile_seconds: z.number().min(1).max(3600).default(60),
  /** A loopback port for Prometheus besides the admin socket. */
  metrics_port: bytes(1, 65535).optional(),
  limits: limitsSchema.default({}),
  datasets: datasetsSchema.default({}),
});

export type Config = Readonly<z.infer<typeof configSchema>>;

/** Members that earlier versions had, and why they went. */
const REMOVED: Readonly<Record<string, string>> = {
  mount_running_zones:
    'was removed: processes of a running zone can lead a mount out of it; reboot the zone instead',
};

/** The configuration cannot be used; the message says why. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigError';
  }
}

/** Parses a configuration that was read from `source`; throws a ConfigError that names each bad member. */
export function parseConfig(text: string, source: string): Config {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (err) {
    throw new ConfigError(`${source}: not JSON: ${messageOf(err)}`);
  }
  const removed = Object.keys(REMOVED).filter((name) => hasMember(json, name));
  if (removed.length > 0) {
    const faults = removed.map((name) => `${name}: ${REMOVED[name] ?? ''}`);
    throw new ConfigError(`${source}: ${faults.join('; ')}`);
  }
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => {
      const where = issue.path.length === 0 ? 'the whole' : issue.path.join('.');
      return `${where}: ${issue.message}`;
    });
    throw new ConfigError(`${source}: ${faults.join('; ')}`);
  }
  return parsed.data;
}

function hasMember(json: unknown, name: string): boolean {
  return typeof json === 'object' && json !== null && Object.hasOwn(json, name);
}

/** Reads and parses a configuration file; without a path, all defaults. */
export function loadConfig(path: string | undefined): Config {
  if (path === undefined) {
    return parseConfig('{}', 'defaults');
  }
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    throw new ConfigError(`${path}: cannot be read: ${codeOf(err)}`);
  }
  return parseConfig(text, path);
}

/** Members that are looked at only when the agent, or a zone's part of it, is made. */
const MADE_WITH = [
  'writer',
  'restore_undone_writes',
  'vminfod',
  'metrics_port',
  'reconcile_seconds',
  'readers',
] as const;
const LIMITS_MADE_WITH = [
  'writes_per_second',
  'write_burst',
  'metadata_bytes',
  'metadata_keys',
  'metadata_file_bytes',
  'records_per_second',
  'record_burst',
  'log_bytes_per_second',
] as const;

/** The members that differ and take effect only with a new start of the agent. */
export function needingRestart(before: Config, after: Config): string[] {
  const limits = LIMITS_MADE_WITH.filter((name) => before.limits[name] !== after.limits[name]);
  return [
    ...MADE_WITH.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name])),
    ...limits.map((name) => `limits.${name}`),
  ];
}

/** The URL of vminfod as the command line gives it; throws a ConfigError. */
export function parseVminfodUrl(url: string): string {
  if (!VMINFOD_URL.test(url)) {
    throw new ConfigError(`--vminfod ${url}: wants http://HOST:PORT or unix:/PATH`);
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
export function ownEnvironment(): Record<string, string> {
  const { env } = process;
  return Object.fromEntries(
    Object.entries(env).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])),
  );
}

/** The alternate root to work below, unless `--root` says it. `/` only where the platform is real. */
export function defaultRoot(): string | undefined {
  const fromEnvironment = process.env.MDATAD_ROOT;
  if (fromEnvironment !== undefined && fromEnvironment !== '') {
    return fromEnvironment;
  }
  return process.platform === 'sunos' ? '/' : undefined;
}
