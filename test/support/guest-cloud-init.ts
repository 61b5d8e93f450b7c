/*
 * cloud-init's data source for SmartOS, as Debian's package has it, run on this machine: what it was
 * given, attempt by attempt. The running is done by guest-cloud-init.py.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The system's own: the packages are installed for no other. */
export const PYTHON = '/usr/bin/python3';
export const CLOUD_INIT = join(
  __dirname,
  '..',
  '..',
  '..',
  'test',
  'support',
  'guest-cloud-init.py',
);
const PREFIX = 'CLOUD-INIT ';

/** What the data source gave, in cloud-init's own names. */
export interface CloudInitData {
  readonly client: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly userdata: unknown;
  readonly vendordata: unknown;
  readonly network: unknown;
}

/** One try to get the data: it got some, or it raised, which cloud-init logs and tries again. */
export type Attempt = { readonly data: CloudInitData } | { readonly raised: string };

/** Null where cloud-init is installed, else why it cannot be run. */
export async function whyNoCloudInit(): Promise<string | null> {
  try {
    await run(PYTHON, ['-c', 'from cloudinit.sources import DataSourceSmartOS']);
    return null;
  } catch {
    return 'the package cloud-init is not installed';
  }
}

/** Every file that the data source needs to run, the interpreter included: host paths. */
export async function cloudInitFiles(): Promise<string[]> {
  const { stdout } = await run(PYTHON, [CLOUD_INIT, '--closure']);
  return stdout.trim().split('\n');
}

export interface CloudInitRun {
  /** Rejects where it said nothing of an attempt: it could not be run, or was ended before. */
  readonly attempts: Promise<Attempt[]>;
  /** Ends it where it still runs. Resolves when it is gone. */
  readonly end: () => Promise<void>;
}

/** @param argv options of guest-cloud-init.py */
export function startCloudInit(argv: readonly string[]): CloudInitRun {
  const child = spawn(PYTHON, [CLOUD_INIT, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  const errors: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  const attempts: Attempt[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    const attempt = parseAttempt(line);
    if (attempt !== null) {
      attempts.push(attempt);
    }
  });
  const closed = once(child, 'close');
  const reported = closed.then(() => {
    if (attempts.length === 0) {
      throw new Error(`cloud-init reported no attempt:\n${Buffer.concat(errors).toString()}`);
    }
    return attempts;
  });
  // Awaited by whoever wants to know; a test that failed before does not.
  reported.catch(() => undefined);
  const end = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
    }
    await closed;
  };
  return { attempts: reported, end };
}

/** Null for any other line. */
export function parseAttempt(line: string): Attempt | null {
  return line.startsWith(PREFIX) ? (JSON.parse(line.slice(PREFIX.length)) as Attempt) : null;
}
