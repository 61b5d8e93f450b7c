/*
 * The checks of preflight that read the node's own records: its index, vminfod, vmadm, mount table,
 * SMF. They change nothing and load nothing native; files inside zones are never opened here.
 */
import { access, lstat, readFile } from 'node:fs/promises';
import { codeOf } from '../../src/lib/errors';
import {
  HVM_BRANDS,
  isJsonObject,
  own,
  ownString,
  parseJsonObject,
  type JsonObject,
} from '../../src/metadata/vm-data';
import { run } from '../../src/platform/exec';
import { missingSafeOptions, parseMnttab, type MountEntry } from '../../src/platform/mounts';
import { mountPointOf, type Paths } from '../../src/platform/paths';
import { BrokenLine, SnapshotParser } from '../../src/vm/snapshot-parser';
import { get, getText } from '../../src/vm/vminfod-client';
import { ZoneRoots } from '../../src/platform/zone-root';
import { inBytes, octal } from '../../src/admin/format';
import {
  fail,
  listed,
  ok,
  readIndex,
  warn,
  type Finding,
  type HvmZone,
  type IndexZone,
  type ProbeName,
} from './check';

/** What a check works with; one for a run. */
export interface PreflightContext {
  readonly root: string;
  readonly paths: Paths;
  readonly vminfodUrl: string;
  /** Of this process. */
  readonly facts: { readonly arch: string; readonly version: string; readonly uid: number };
  /** Aborted when the run ends. */
  readonly signal: AbortSignal;
  /** What vminfod reports; asked once. */
  readonly vms: () => Promise<ReadyLine>;
  /** Runs a probe in a process of its own. */
  readonly probe: (name: ProbeName, stdin?: string) => Promise<Finding>;
}

/** What of a VM matters here. */
interface VmLine {
  readonly zonename: string;
  readonly uuid: string;
  readonly brand: string;
  readonly zoneState: string;
  readonly com2: string | null;
}

export interface ReadyLine {
  readonly vms: readonly VmLine[];
  readonly bytes: number;
  readonly elapsedMs: number;
}

/** Major, minor: as `engines` in package.json. */
export const LEAST_NODE = [20, 15] as const;
const PROGRAM_MS = 8000;
/** Between two comparisons of what moves. */
const AGAIN_MS = 500;
const COMPARISONS = 3;
/** Those whose platform.xml mounts the socket directory. */
const MOUNTING_BRANDS: ReadonlySet<string> = new Set(['joyent', 'joyent-minimal', 'builder', 'lx']);
/** As the service's method context has them, without `basic`. */
const PRIVILEGES = [
  'file_dac_read',
  'file_dac_search',
  'file_dac_write',
  'file_chown',
  'file_owner',
  'sys_mount',
  'proc_fork',
  'proc_exec',
];
const LF = 0x0a;
const PLATFORM_AGENT = 'svc:/system/smartdc/metadata:default';
/** It requires the service, whichever instance: zones of the next boot wait for one that is online. */
const ZONES = 'svc:/system/zones:default';
const OURS = 'svc:/site/mdatad';

/** The whole VM list as vminfod's event stream begins with it. Rejects with a SystemError or BrokenLine. */
export async function readReadyLine(url: string, signal: AbortSignal): Promise<ReadyLine> {
  const began = performance.now();
  const vms: VmLine[] = [];
  let bytes = 0;
  const parser = new SnapshotParser((json) => {
    const vm = parseJsonObject(json);
    if (vm === undefined) {
      throw new BrokenLine('a VM of the ready line is not JSON');
    }
    vms.push(lineOf(vm));
  });
  const done = new AbortController();
  try {
    const limited = AbortSignal.any([signal, done.signal]);
    const chunks: AsyncIterable<Buffer> = await get(url, '/events', limited);
    for await (const chunk of chunks) {
      const part = chunk.subarray(0, chunk.indexOf(LF) + 1 || chunk.length);
      bytes += part.length;
      if (parser.push(part)) {
        return { vms, bytes, elapsedMs: Math.round(performance.now() - began) };
      }
    }
    throw new BrokenLine('the stream ended within the ready line');
  } finally {
    done.abort();
  }
}

function lineOf(vm: JsonObject): VmLine {
  return {
    zonename: ownString(vm, 'zonename') ?? '',
    uuid: ownString(vm, 'uuid') ?? '',
    brand: ownString(vm, 'brand') ?? '',
    zoneState: ownString(vm, 'zone_state') ?? '',
    com2: ownString(vm, 'com2') ?? (own(vm, 'com2') === undefined ? null : ''),
  };
}

export function checkNodeVersion({ facts: { arch, version } }: PreflightContext): Promise<Finding> {
  const seen = `Node ${version}, ${arch}`;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [leastMajor, leastMinor] = LEAST_NODE;
  const isNewEnough = major > leastMajor || (major === leastMajor && minor >= leastMinor);
  return Promise.resolve(arch === 'x64' && isNewEnough ? ok(seen) : fail(seen));
}

export function checkRoot({ facts: { uid } }: PreflightContext): Promise<Finding> {
  return Promise.resolve(uid === 0 ? ok('uid 0') : fail(`uid ${uid}`));
}

/**
 * What this process may hand on to the service (ppriv.c: `-v` lists every name of each set). Off illumos a
 * simulated node has no such command, and root may all.
 */
export async function checkPrivileges({ paths, root }: PreflightContext): Promise<Finding> {
  const ppriv = paths.host('/usr/bin/ppriv');
  if (!(await isThere(ppriv))) {
    return root === '/' ? warn(`${ppriv} is not there`) : ok('simulated node: root has all');
  }
  const { stdout } = await run([ppriv, '-v', String(process.pid)], { timeoutMs: PROGRAM_MS });
  const sets = ['E', 'L'].map((set) => new RegExp(`^\\s*${set}: (.*)$`, 'm').exec(stdout)?.[1]);
  const missing = PRIVILEGES.filter((name) => {
    return !sets.every((set) => set === 'all' || set?.split(',').includes(name) === true);
  });
  return missing.length === 0
    ? ok(`all ${PRIVILEGES.length} in the effective and the limit set`)
    : fail(`missing: ${missing.join(', ')}`);
}

export async function checkIndex({ paths }: PreflightContext): Promise<Finding> {
  const { zones, broken } = await readIndex(paths);
  if (broken.length > 0) {
    const lines = listed(broken.map(String), 5);
    return fail(`${paths.zoneIndex}: cannot understand line ${lines}`);
  }
  const brandless = zones.filter(({ brand }) => brand === '');
  return brandless.length === 0
    ? ok(`${zones.length} zones, each with state, path and brand`)
    : warn(`${brandless.length} of ${zones.length} zones have no brand in field 5`);
}

export async function checkVminfod(context: PreflightContext): Promise<Finding> {
  const { vminfodUrl, signal } = context;
  const began = performance.now();
  const pong = parseJsonObject(await getText(vminfodUrl, '/ping', signal));
  const pingMs = Math.round(performance.now() - began);
  if (pong?.ping !== 'pong') {
    return fail('its ping is not answered by pong');
  }
  const { vms, bytes, elapsedMs } = await context.vms();
  const nameless = vms.filter(({ zonename }) => zonename === '').length;
  if (nameless > 0) {
    return warn(`${nameless} of ${vms.length} VMs in its ready line have no zonename`);
  }
  return ok(`ping ${pingMs} ms; ready line ${inBytes(bytes)}, ${vms.length} VMs, ${elapsedMs} ms`);
}

/** vmadm asks vminfod too: what differs for longer than a second is one that cannot be believed. */
export async function checkVmadm(context: PreflightContext): Promise<Finding> {
  const { paths, vminfodUrl, signal } = context;
  let ready = await context.vms();
  for (let n = 1; ; n++) {
    const vms = await vmadmLookup(paths, signal);
    const faults = differences(ready.vms, vms);
    if (faults.length === 0) {
      return ok(`${vms.length} VMs, as vminfod reports them`);
    }
    if (n === COMPARISONS) {
      return fail(`not as vminfod reports: ${listed(faults)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    ready = await readReadyLine(vminfodUrl, signal);
  }
}

async function vmadmLookup(paths: Paths, signal: AbortSignal): Promise<VmLine[]> {
  const argv = [paths.vmadm, 'lookup', '-j', '-o', 'uuid,zonename,brand,zone_state'];
  const { stdout } = await run(argv, { timeoutMs: PROGRAM_MS, signal }).catch((err: unknown) => {
    throw codeOf(err) === 'ETIMEDOUT'
      ? new Error(`vmadm lookup gave no answer within ${PROGRAM_MS / 1000} s`)
      : err;
  });
  const value: unknown = JSON.parse(stdout);
  return (Array.isArray(value) ? value : []).filter(isJsonObject).map(lineOf);
}

function differences(reported: readonly VmLine[], listedByTool: readonly VmLine[]): string[] {
  const known = new Map(reported.map((vm) => [vm.uuid, vm]));
  const faults = listedByTool.flatMap(({ uuid, brand, zoneState }) => {
    const vm = known.get(uuid);
    known.delete(uuid);
    if (vm === undefined) {
      return [`${uuid} only in vmadm`];
    }
    return vm.brand === brand && vm.zoneState === zoneState
      ? []
      : [`${uuid} is ${brand} ${zoneState} in vmadm, ${vm.brand} ${vm.zoneState} in vminfod`];
  });
  return [...faults, ...[...known.keys()].map((uuid) => `${uuid} only in vminfod`)];
}

export async function checkBrands(context: PreflightContext): Promise<Finding> {
  const zones = await zonesOf(context);
  const counts = new Map<string, number>();
  zones.forEach(({ brand }) => counts.set(brand, (counts.get(brand) ?? 0) + 1));
  const unknown = [...counts.keys()].filter((b) => !HVM_BRANDS.has(b) && !MOUNTING_BRANDS.has(b));
  const shown = [...counts].map(([brand, count]) => `${count} ${brand || '(none)'}`).join(', ');
  return unknown.length === 0
    ? ok(shown === '' ? 'no zone is configured' : shown)
    : warn(`unknown: ${listed(unknown.map((brand) => brand || '(none)'))}; all: ${shown}`);
}

/** Directories of the global zone; the mount in the zone is looked up in the table instead. */
export async function checkDirectories(context: PreflightContext): Promise<Finding> {
  const { paths } = context;
  const running = await runningZones(context);
  const zones = (await zonesOf(context)).filter(({ brand }) => !HVM_BRANDS.has(brand));
  const wrong: string[] = [];
  const open: string[] = [];
  let there = 0;
  for (const { zonename } of zones) {
    const path = paths.zoneDirectory(zonename);
    try {
      const stat = await lstat(path);
      there++;
      if (!stat.isDirectory()) {
        wrong.push(`${zonename} is not a directory`);
      } else if (stat.uid !== 0 || (stat.mode & 0o7777) !== 0o700) {
        open.push(`${zonename} ${octal(stat.mode)} uid ${stat.uid}`);
      }
    } catch (err) {
      if (codeOf(err) !== 'ENOENT') {
        wrong.push(`${zonename}: ${codeOf(err)}`);
      } else if (running.has(zonename)) {
        wrong.push(`${zonename} is not there, and the zone runs`);
      }
    }
  }
  if (wrong.length > 0) {
    return fail(
      listed(wrong, 1),
      `ls -la ${paths.zonecontrol}; put it right, then reboot the zone`,
    );
  }
  return open.length === 0
    ? ok(`${there} of ${zones.length} are there, all 0700 root`)
    : warn(`other users may enter ${open.length}: ${listed(open, 1)}`);
}

export async function checkZoneMounts(context: PreflightContext): Promise<Finding> {
  const { paths } = context;
  const running = await runningZones(context);
  const zones = (await zonesOf(context)).filter(({ zonename, brand }) => {
    return running.has(zonename) && MOUNTING_BRANDS.has(brand);
  });
  const roots = new ZoneRoots(paths.root);
  const mounts = new Map(
    parseMnttab(await readFile(paths.mnttab, 'utf8')).map((entry) => [entry.mountPoint, entry]),
  );
  const faults = zones.flatMap((zone) => {
    const at = roots.of(paths.host(zone.zonepath)).nameOf(mountPointOf(zone.brand));
    const fault = mountFault(mounts.get(at), paths.zoneDirectory(zone.zonename));
    return fault === null ? [] : [{ zone, fault }];
  });
  const [first] = faults;
  if (first === undefined) {
    return ok(zones.length === 0 ? 'no OS zone runs' : `all ${zones.length} running OS zones`);
  }
  const seen = listed(
    faults.map(({ zone, fault }) => `${zone.zonename}: ${fault}`),
    1,
  );
  return warn(seen, `vmadm reboot ${first.zone.zonename}`);
}

function mountFault(entry: MountEntry | undefined, special: string): string | null {
  if (entry?.fstype !== 'lofs') {
    return 'not mounted';
  }
  if (entry.special !== special) {
    return `shows ${entry.special}`;
  }
  const missing = missingSafeOptions(entry);
  return missing.length === 0 ? null : `without ${missing.join(', ')}`;
}

export async function checkPorts(context: PreflightContext): Promise<Finding> {
  const { paths, probe } = context;
  const running = await runningZones(context);
  const { vms } = await context.vms();
  const zones = (await zonesOf(context)).flatMap(({ zonename, zonepath, brand }): HvmZone[] => {
    const com2 = vms.find((vm) => vm.zonename === zonename)?.com2 ?? null;
    return HVM_BRANDS.has(brand) && running.has(zonename)
      ? [{ zonename, zonepath: paths.host(zonepath), com2 }]
      : [];
  });
  return probe('hvm-ports', JSON.stringify(zones));
}

/** The zones of the index; where it has no brand, vminfod's. */
async function zonesOf({ paths, vms }: PreflightContext): Promise<IndexZone[]> {
  const { zones } = await readIndex(paths);
  const ready = await vms().catch(() => null);
  const brands = new Map(ready?.vms.map(({ zonename, brand }) => [zonename, brand]));
  return zones.map((zone) => ({ ...zone, brand: zone.brand || (brands.get(zone.zonename) ?? '') }));
}

/** By what vminfod reports; none where it is silent, which is a check of its own. */
async function runningZones({ vms }: PreflightContext): Promise<ReadonlySet<string>> {
  const ready = await vms().catch(() => null);
  const running = ready?.vms.filter(({ zoneState }) => zoneState === 'running') ?? [];
  return new Set(running.map(({ zonename }) => zonename));
}

/**
 * Who would not start, or not start again, without the platform's agent. `svcs -D` of an instance lists
 * dependents of the service too, but no exclusions (svcs.c, check_against_provider, walk_dependencies).
 */
export async function checkSmf({ paths, root, signal }: PreflightContext): Promise<Finding> {
  const svcs = paths.host('/usr/bin/svcs');
  if (!(await isThere(svcs))) {
    return root === '/' ? warn(`${svcs} is not there`) : ok('simulated node: no SMF');
  }
  const ask = async (operands: readonly string[]): Promise<string[][]> => {
    const argv = [svcs, '-H', '-o', 'state,fmri', ...operands];
    const { stdout } = await run(argv, { timeoutMs: PROGRAM_MS, signal });
    return stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.trim().split(/\s+/)]));
  };
  const agent = (await ask([PLATFORM_AGENT]))[0]?.[0] ?? 'absent';
  const dependents = (await ask(['-D', PLATFORM_AGENT])).map(([, fmri = '']) => fmri);
  const others = dependents.filter((fmri) => fmri !== ZONES && !fmri.startsWith(OURS));
  const seen = `the platform's agent is ${agent.replace('*', '')}`;
  if (others.length > 0) {
    return warn(`${seen}; ${listed(others)} would wait for it in vain`);
  }
  if (agent === 'maintenance' || agent === 'absent') {
    return warn(`${seen}: nothing serves now`, `svcs -xv ${PLATFORM_AGENT}`);
  }
  return ok(
    dependents.includes(ZONES)
      ? `${seen}; svc:/system/zones waits for an instance online`
      : `${seen}; nothing depends on it`,
  );
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
