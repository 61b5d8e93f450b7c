/*
 * Preflight: proves on the node itself what mdatad relies on, before anything is touched.
 *
 *   scratch directory and lock -> checks, a few at a time -> all that was made is removed -> report
 *                                   |         |
 *                            in this process  each in a child process (child.ts)
 *
 * Needs no daemon. Always true: a check is over within its limit and the run within 30 s; the failure
 * of one stops no other; nothing stays behind, also when the run is aborted, or the report says what and how
 * to remove it. What a run that was killed left behind is removed by the next one. Files inside zones are checked in child processes only: a zone's
 * file system that never answers blocks nobody.
 */
import { chmod, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ownEnvironment } from '../../src/config';
import { codeOf, messageOf, systemError } from '../../src/lib/errors';
import { run } from '../../src/platform/exec';
import { parseMnttab } from '../../src/platform/mounts';
import { Paths } from '../../src/platform/paths';
import { ZoneRoots } from '../../src/platform/zone-root';
import {
  fail,
  ok,
  parseFinding,
  type Finding,
  type PreflightCheck,
  type PreflightReport,
  type ProbeName,
  type Ground,
} from './check';
import {
  checkBrands,
  checkDirectories,
  checkIndex,
  checkNodeVersion,
  checkPorts,
  checkPrivileges,
  checkRoot,
  checkSmf,
  checkVmadm,
  checkVminfod,
  checkZoneMounts,
  LEAST_NODE,
  readReadyLine,
  type PreflightContext,
  type ReadyLine,
} from './node-checks';

export interface PreflightOptions {
  /** An absolute path; `/` on SmartOS. */
  readonly root: string;
  /** Absent: the platform's. */
  readonly vminfodUrl?: string | undefined;
  /** Makes these checks only, by name; left out: all. */
  readonly only?: readonly string[] | undefined;
  /** Ends the run: what was not finished is said to be so. */
  readonly signal?: AbortSignal;
  /** Of this process; a test says otherwise. */
  readonly facts?: PreflightContext['facts'];
}

interface Check {
  readonly name: string;
  readonly expected: string;
  readonly remedy: string;
  readonly find: (context: PreflightContext) => Promise<Finding>;
}

/** A start of Node, a native call that waits for its own limit, and room for a busy machine, ms. */
const CHECK_MS = 10_000;
/** Of the whole run; a check that is not over then has failed. */
const RUN_MS = 27_000;
/** Each mount is unmounted within this, or reported. */
const UNDO_MS = 2500;
const AT_ONCE = 4;
const PREFIX = '.preflight.';
/** The name of the check that all others work within. */
const SCRATCH = 'scratch';
const IN_THE_WAY =
  'become root; what is in the way: ls -la /var/zonecontrol; grep preflight /etc/mnttab';
const PROGRAM = join(__dirname, 'child.js');

/** Probes that write nothing. */
const READS_ONLY: ReadonlySet<ProbeName> = new Set([
  ...(['addon', 'ffi', 'global-zone', 'kernel-zones', 'libzonecfg'] as const),
  ...(['zone-events', 'hvm-ports'] as const),
]);

const REPORT_IT = 'mdatad relies on this: do not install, and report what was seen';
const REINSTALL = 'install the package that was built for this platform and this Node';

function probed(name: ProbeName, expected: string, remedy: string): Check {
  return { name, expected, remedy, find: ({ probe }) => probe(name) };
}

/** In the order of the report. Names are stable; `expected` and `remedy` fit a line. */
const CHECKS: readonly Check[] = [
  probed('global-zone', 'the global zone', 'run it in the global zone'),
  check('uid', 'uid 0', 'become root: pfexec mdatactl preflight', checkRoot),
  check('node', `Node ${LEAST_NODE.join('.')} or later, x64`, REINSTALL, checkNodeVersion),
  check(
    'privileges',
    'file_dac_*, file_chown, file_owner, sys_mount, proc_fork, proc_exec',
    'run it from a root shell of the global zone: ppriv -v $$',
    checkPrivileges,
  ),
  probed('addon', 'the native addon loads', REINSTALL),
  probed('ffi', 'libc and libzonecfg open through ffi', REINSTALL),
  probed('struct-sizes', 'sizes and layouts as compiled in', REPORT_IT),
  check(
    'zone-index',
    'name, state, zonepath, uuid and brand of every zone',
    'zoneadm list -cv; a zone without a brand here is asked for one by one',
    checkIndex,
  ),
  probed(
    'kernel-zones',
    'every running zone is in the index, same id, its brand or native',
    'zoneadm list -cv',
  ),
  probed(
    'libzonecfg',
    'state, brand, path and root as in the index',
    'zoneadm list -cv; zonecfg -z ZONE info',
  ),
  probed(
    'zone-events',
    'subscription, critical section and ping within 2 s',
    'find stuck or many subscribers (32 are the most): pgrep -fl "sysevent|zoneevent|vminfod"',
  ),
  probed('socket', 'bind, chmod, rename; reached by the path', REPORT_IT),
  probed('peer-credential', 'zone 0 and the uid and pid of the peer', REPORT_IT),
  probed('other-user', 'EACCES below a 0700 directory, and its uid reported', REPORT_IT),
  probed(
    'lofs',
    'mount, connect through it, EROFS, unmount, /etc/mnttab true',
    'needs sys_mount; see what is mounted: grep preflight /etc/mnttab',
  ),
  probed(
    'watch',
    'a rename in the directory is reported',
    'none: mdatad checks by itself every 2 s',
  ),
  probed('directory-sync', 'fsync of a file and its directory', 'check the pool: zpool status -x'),
  probed('lock', 'a second process is refused the fcntl lock', REPORT_IT),
  probed('thread-pool', '24 threads for file operations', 'unset UV_THREADPOOL_SIZE'),
  probed(
    'free-space',
    '1 MiB can be written, more than 2 % free',
    'zfs list -o space zones/var; df -h /var/run',
  ),
  check(
    'vminfod',
    'pong, and a ready line with every VM',
    'svcs -xv vminfod; svcadm restart vminfod',
    checkVminfod,
  ),
  check(
    'vmadm',
    'the VMs that vminfod reports',
    'vmadm lookup -j; svcadm restart vminfod',
    checkVmadm,
  ),
  check(
    'zone-brands',
    'joyent, joyent-minimal, builder, lx, kvm, bhyve',
    'none: it is served as an OS zone; its brand may not mount the socket',
    checkBrands,
  ),
  check(
    'zone-directories',
    'a directory 0700 root for every OS zone',
    'mdatad repairs it at its start; now: chmod 700 /var/zonecontrol/*',
    checkDirectories,
  ),
  check(
    'zone-mounts',
    'its socket directory in every running OS zone: ro, no devices, setuid, exec',
    'vmadm reboot UUID',
    checkZoneMounts,
  ),
  check(
    'hvm-ports',
    'a socket, no links on its way, in every running HVM zone',
    'the hypervisor makes it: tail ZONEPATH/logs/platform.log; vmadm reboot UUID',
    checkPorts,
  ),
  check(
    'smf',
    "only svc:/system/zones depends on the platform's agent",
    'svcs -D svc:/system/smartdc/metadata:default; change those before install',
    checkSmf,
  ),
];

function check(name: string, expected: string, remedy: string, find: Check['find']): Check {
  return { name, expected, remedy, find };
}

/** The names of all checks, in the order of the report. */
export const CHECK_NAMES: readonly string[] = [SCRATCH, ...CHECKS.map(({ name }) => name)];

/** Never rejects: what goes wrong is in the report. */
export async function preflight(options: PreflightOptions): Promise<PreflightReport> {
  const began = performance.now();
  const paths = new Paths(options.root);
  // Not AbortSignal.timeout: Node 20 may collect one that only AbortSignal.any holds.
  const over = new AbortController();
  const end = (): void => over.abort();
  const timer = setTimeout(end, RUN_MS);
  options.signal?.addEventListener('abort', end, { once: true });
  if (options.signal?.aborted === true) {
    end();
  }
  const scratch: Ground = {
    root: options.root,
    directory: join(paths.zonecontrol, `${PREFIX}${process.pid}`),
    lock: paths.host(`/var/run/${PREFIX}${process.pid}.lock`),
  };
  const earlier = await removeLeftovers(paths, null);
  const unprepared = await prepare(scratch);
  const wanted = CHECKS.filter(({ name }) => options.only?.includes(name) ?? true);
  const context = contextOf(options, paths, unprepared === null ? scratch : null, over.signal);
  const checks = await runChecks(wanted, context);
  clearTimeout(timer);
  options.signal?.removeEventListener('abort', end);
  const left = await removeLeftovers(paths, `${PREFIX}${process.pid}`);
  const { verdict, seen, remedy } =
    unprepared ?? left ?? earlier ?? ok('made, and removed in the end');
  const made: PreflightCheck = {
    name: SCRATCH,
    verdict,
    expected: 'a directory below /var/zonecontrol, made and removed',
    seen,
    remedy: verdict === 'ok' ? '' : (remedy ?? IN_THE_WAY),
  };
  const isWanted = made.verdict !== 'ok' || (options.only?.includes(made.name) ?? true);
  return {
    checks: isWanted ? [made, ...checks] : checks,
    elapsed_ms: Math.round(performance.now() - began),
  };
}

/** @returns null, or why the scratch directory could not be made */
async function prepare({ directory }: Ground): Promise<Finding | null> {
  try {
    await mkdir(directory, { mode: 0o700 });
    await chmod(directory, 0o700);
    return null;
  } catch (err) {
    return fail(`${directory} cannot be made: ${codeOf(err)}`);
  }
}

function contextOf(
  { root, vminfodUrl, facts }: PreflightOptions,
  paths: Paths,
  scratch: Ground | null,
  signal: AbortSignal,
): PreflightContext {
  const url = vminfodUrl ?? paths.vminfodUrl;
  let ready: Promise<ReadyLine> | null = null;
  return {
    root,
    paths,
    vminfodUrl: url,
    signal,
    facts: facts ?? {
      arch: process.arch,
      version: process.versions.node,
      uid: process.geteuid?.() ?? 0,
    },
    vms: () => (ready ??= readReadyLine(url, signal)),
    probe: (name, stdin) => runProbe(name, root, scratch, signal, stdin),
  };
}

/** A child that does not end is killed; how it ended is what was seen. */
async function runProbe(
  name: ProbeName,
  root: string,
  scratch: Ground | null,
  signal: AbortSignal,
  stdin = '',
): Promise<Finding> {
  if (scratch === null && !READS_ONLY.has(name)) {
    return fail('needs the scratch directory', 'repair what "scratch" says, then run it again');
  }
  const argv = [process.execPath, PROGRAM, name, root];
  try {
    if (scratch !== null) {
      const directory = join(scratch.directory, name);
      await mkdir(directory);
      argv.push(directory, scratch.lock + name);
    }
    const env = ownEnvironment();
    const { stdout } = await run(argv, { timeoutMs: CHECK_MS - 500, env, signal, stdin });
    return parseFinding(stdout) ?? fail('its process printed no result');
  } catch (err) {
    const code = codeOf(err);
    if (code === 'ETIMEDOUT' || signal.aborted) {
      return fail('no answer in time: its process was killed');
    }
    return fail(code.startsWith('SIG') ? `its process died of ${code}` : messageOf(err));
  }
}

async function runChecks(
  checks: readonly Check[],
  context: PreflightContext,
): Promise<PreflightCheck[]> {
  const results: PreflightCheck[] = [];
  const remaining = checks.entries();
  const worker = async (): Promise<void> => {
    for (const [at, one] of remaining) {
      results[at] = await runCheck(one, context);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

async function runCheck(
  { name, expected, remedy, find }: Check,
  context: PreflightContext,
): Promise<PreflightCheck> {
  const finding = await within(find(context), context.signal).catch((err: unknown) => {
    return fail(messageOf(err).replaceAll('\n', ' '));
  });
  const todo = finding.verdict === 'ok' ? '' : (finding.remedy ?? remedy);
  return { name, verdict: finding.verdict, expected, seen: finding.seen, remedy: todo };
}

/** What cannot be ended is not waited for any longer. */
async function within(finding: Promise<Finding>, signal: AbortSignal): Promise<Finding> {
  let timer: NodeJS.Timeout | undefined;
  let stop = (): void => undefined;
  const over = new Promise<Finding>((resolve) => {
    timer = setTimeout(() => resolve(fail('no answer in time')), CHECK_MS);
    stop = () => resolve(fail('the run was ended before this was known'));
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) {
      stop();
    }
  });
  try {
    return await Promise.race([finding, over]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

/**
 * Unmounts and removes what a run made: our own by its name, or all whose process is gone.
 * @returns null, or what stays; what an earlier run left is in nobody's way
 */
async function removeLeftovers(paths: Paths, own: string | null): Promise<Finding | null> {
  const verdict = own === null ? 'warn' : 'fail';
  let stays: Finding | null = null;
  try {
    const names = own === null ? (await namesIn(paths.zonecontrol)).filter(isLeftover) : [own];
    for (const name of names) {
      const left = await removeScratch(paths, join(paths.zonecontrol, name));
      stays ??= left === null ? null : { verdict, ...left };
    }
    const run = paths.host('/var/run');
    for (const name of await namesIn(run)) {
      if (own === null ? isLeftover(name) : name.startsWith(`${own}.lock`)) {
        await rm(join(run, name), { force: true });
      }
    }
    return stays;
  } catch (err) {
    return stays ?? { verdict, seen: messageOf(err) };
  }
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch((err: unknown) => {
    if (codeOf(err) === 'ENOENT') {
      return [];
    }
    throw systemError('readdir', directory, err);
  });
}

function isLeftover(name: string): boolean {
  const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : NaN;
  if (!Number.isInteger(pid) || pid === process.pid) {
    return pid === process.pid;
  }
  try {
    process.kill(pid, 0);
    return false;
  } catch (err) {
    return codeOf(err) === 'ESRCH';
  }
}

/** Nothing is removed recursively while something is mounted there. @returns what stays */
async function removeScratch(
  paths: Paths,
  directory: string,
): Promise<Omit<Finding, 'verdict'> | null> {
  const table = await readFile(paths.mnttab, 'utf8').catch((err: unknown) => {
    throw systemError('read', paths.mnttab, err);
  });
  const points = parseMnttab(table).map(({ mountPoint }) => mountPoint);
  for (const point of points.filter((each) => each.startsWith(`${directory}/`)).reverse()) {
    try {
      await unmount(paths.root, directory, point);
    } catch (err) {
      return {
        seen: `${point} stays mounted: ${messageOf(err)}`,
        remedy: `fuser -c ${point}; umount ${point}; rm -r ${directory}`,
      };
    }
  }
  await rm(directory, { recursive: true, force: true });
  return null;
}

/** By a process of its own (platform/zone-root.ts): a mount that does not come off must not block us. */
async function unmount(root: string, directory: string, point: string): Promise<void> {
  const roots = new ZoneRoots(root);
  const over = new AbortController();
  // Keeps this process alive as well: the other one does not.
  const timer = setTimeout(() => over.abort(), UNDO_MS);
  try {
    await roots.of(directory).unmount(point, over.signal);
  } finally {
    clearTimeout(timer);
    roots.stop();
  }
}

/** 0 all is well, 1 warnings, 2 something failed. */
export function exitOfPreflight({ checks }: PreflightReport): 0 | 1 | 2 {
  const has = (wanted: string): boolean => checks.some(({ verdict }) => verdict === wanted);
  return has('fail') ? 2 : has('warn') ? 1 : 0;
}
