/*
 * What a preflight check is: its name, what it expects, and what it found. Types and helpers for the
 * runner (preflight.ts), the checks made in its process (node-checks.ts) and those made in a child
 * process (child.ts).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ownEnvironment } from '../../src/config';
import { systemError } from '../../src/lib/errors';
import {
  isJsonObject,
  ownString,
  parseJsonObject,
  type JsonObject,
} from '../../src/metadata/vm-data';
import { run } from '../../src/platform/exec';
import type { Paths } from '../../src/platform/paths';

export type PreflightVerdict = 'ok' | 'warn' | 'fail';

/** One line of the report. Names are stable: the install script lets an operator override by name. */
export interface PreflightCheck {
  readonly name: string;
  readonly verdict: PreflightVerdict;
  readonly expected: string;
  readonly seen: string;
  /** What to do, on one line; empty where the verdict is `ok`. */
  readonly remedy: string;
}

export interface PreflightReport {
  readonly checks: readonly PreflightCheck[];
  readonly elapsed_ms: number;
}

/** What a check found. Where `remedy` is absent the check's own is shown. */
export interface Finding {
  readonly verdict: PreflightVerdict;
  readonly seen: string;
  readonly remedy?: string;
}

export function ok(seen: string): Finding {
  return { verdict: 'ok', seen };
}

/** mdatad will serve, but something is not as it should be. */
export function warn(seen: string, remedy?: string): Finding {
  return { verdict: 'warn', seen, ...(remedy !== undefined && { remedy }) };
}

/** mdatad would not serve, or would do harm. */
export function fail(seen: string, remedy?: string): Finding {
  return { verdict: 'fail', seen, ...(remedy !== undefined && { remedy }) };
}

/** Checks whose native calls could crash or block: each runs in a process of its own. */
export const PROBES = [
  'addon',
  'ffi',
  'global-zone',
  'kernel-zones',
  'libzonecfg',
  'struct-sizes',
  'zone-events',
  'socket',
  'peer-credential',
  'other-user',
  'lofs',
  'watch',
  'directory-sync',
  'lock',
  'hvm-ports',
  'free-space',
  'thread-pool',
] as const;

export type ProbeName = (typeof PROBES)[number];

/** Where a probe works; nothing else on the node is changed. */
export interface Ground {
  readonly root: string;
  /** A directory below /var/zonecontrol, 0700 root. */
  readonly directory: string;
  /** Beside the platform's lock files, on their file system. */
  readonly lock: string;
}

/** A finding as a child printed it; undefined for anything else. */
export function parseFinding(text: string): Finding | undefined {
  const value = parseJsonObject(text);
  if (value === undefined) {
    return undefined;
  }
  const seen = ownString(value, 'seen');
  const remedy = ownString(value, 'remedy');
  const verdict = (['ok', 'warn', 'fail'] as const).find((word) => word === value.verdict);
  return seen === undefined || verdict === undefined
    ? undefined
    : { verdict, seen, ...(remedy !== undefined && { remedy }) };
}

/** A line of /etc/zones/index; what a line leaves out is empty. */
export interface IndexZone {
  readonly zonename: string;
  readonly state: string;
  /** Platform path, below the root. */
  readonly zonepath: string;
  readonly uuid: string;
  readonly brand: string;
}

export interface ZoneIndex {
  /** The global zone left out. */
  readonly zones: readonly IndexZone[];
  /** Line numbers, from 1, of what is neither a zone nor a comment. */
  readonly broken: readonly number[];
}

/**
 * Reads `name:state:zonepath:uuid:brand:iptype:debugid` lines, apart from the agent's own reader, so that
 * the two can be compared. Fields past the fourth may be missing (libzonecfg's getzoneent_private).
 */
export function parseIndex(text: string): ZoneIndex {
  const zones: IndexZone[] = [];
  const broken: number[] = [];
  text.split('\n').forEach((line, at) => {
    if (line === '' || line.startsWith('#')) {
      return;
    }
    const [zonename = '', state = '', zonepath = '', uuid = '', brand = ''] = line.split(':');
    const known = ['configured', 'incomplete', 'installed'].includes(state);
    if (zonename === '' || !known || !zonepath.startsWith('/')) {
      broken.push(at + 1);
    } else if (zonename !== 'global') {
      zones.push({ zonename, state, zonepath, uuid, brand });
    }
  });
  return { zones, broken };
}

/** @throws SystemError */
export async function readIndex(paths: Paths): Promise<ZoneIndex> {
  try {
    return parseIndex(await readFile(paths.zoneIndex, 'utf8'));
  } catch (err) {
    throw systemError('read', paths.zoneIndex, err);
  }
}

/** A few zones that stand for all: one of each brand and state first, then others, `most` at most. */
export function sampleOf(zones: readonly IndexZone[], most: number): IndexZone[] {
  const kinds = new Map(zones.map((zone) => [`${zone.brand} ${zone.state}`, zone]));
  const first = [...kinds.values()];
  return [...first, ...zones.filter((zone) => !first.includes(zone))].slice(0, most);
}

/** `a, b, c and 12 more`. */
export function listed(names: readonly string[], most = 2): string {
  const more = names.length - most;
  return names.slice(0, most).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** A running HVM zone, as it is handed to the `hvm-ports` probe on stdin. */
export interface HvmZone {
  readonly zonename: string;
  /** Path of this machine. */
  readonly zonepath: string;
  readonly com2: string | null;
}

export function parseHvmZones(text: string): HvmZone[] {
  const value: unknown = JSON.parse(text);
  return (Array.isArray(value) ? value : []).filter(isJsonObject).map((zone) => ({
    zonename: ownString(zone, 'zonename') ?? '',
    zonepath: ownString(zone, 'zonepath') ?? '',
    com2: ownString(zone, 'com2') ?? null,
  }));
}

/** A second process has this long for its part, ms. */
export const HELPER_MS = 6000;
/** Nobody else knows the scratch lock. */
export const LOCK_MS = 2000;

/** Whether another process finds the lock free. */
export async function isLockFree(path: string): Promise<boolean> {
  const { free, seen } = await helper(['try-lock', path]);
  if (typeof free !== 'boolean') {
    throw new Error(String(seen));
  }
  return free;
}

/** Another process of ours, for what takes two. */
export async function helper(operands: readonly string[]): Promise<JsonObject> {
  const argv = [process.execPath, join(__dirname, 'child.js'), ...operands];
  const { stdout } = await run(argv, { timeoutMs: HELPER_MS, env: ownEnvironment() });
  const reply = parseJsonObject(stdout);
  if (!isJsonObject(reply)) {
    throw new Error(`${operands[0] ?? ''}: no answer`);
  }
  return reply;
}
