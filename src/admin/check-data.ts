/*
 * The doctor's steps for a VM's data and for writes: what vminfod reports and how old it is, the config files, the
 * lock of the VM's configuration, room on its disk, and the limits of its metadata. Values are compared here and go
 * nowhere, and no file of the VM is changed.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf, messageOf, SystemError } from '../lib/errors';
import { printableKey } from '../log';
import { lostNamespaces, namespacesOf } from '../metadata/keys';
import { own, ownNumber, ownString } from '../metadata/vm-data';
import { takeLock } from '../platform/lock';
import { pathOf, type ConfigName } from '../vm/config-files';
import {
  fail,
  ok,
  skip,
  warn,
  type Checks,
  type DoctorTarget,
  type Finding,
} from './doctor-context';
import { counted, inBytes, inWords } from './format';
import { askVminfod, BLANK, checkFile, compareFiles } from './health-files';
import { whyBehind } from './vminfod-health';

const ASK_MS = 2000;
/** vminfod shows a change of a file within this. */
const RECHECK_MS = 500;
/** A write holds the lock for less. */
const LOCK_MS = 300;
const SCARCE_BYTES = 16 * 1024 * 1024;
/** A limit that is used up to here will be reached. */
const NEARLY_FULL = 0.8;
/** A refusal is recent for this long. */
const RECENT_REFUSAL_MS = 60 * 60_000;
/** Most holders of a lock that are named. */
const MOST_OPENERS = 5;
const RESTART = 'svcadm restart vminfod: it then reads all VMs again';

/** Of a VM's data, and of what a guest's change needs. */
export const DATA_CHECKS: Checks = {
  'VM data': checkObject,
  'metadata.json': (target) => checkConfig(target, 'metadata'),
  'tags.json': (target) => checkConfig(target, 'tags'),
  'routes.json': (target) => checkConfig(target, 'routes'),
  namespaces: checkNamespaces,
  'config lock': checkLock,
  disk: checkDisk,
  'metadata limits': checkLimits,
};

/** Takes half a second where a second check is due. */
async function checkObject(target: DoctorTarget): Promise<Finding> {
  const { node, health, monitor } = target;
  const { zonename } = target.zone;
  const { vminfod } = health;
  const isDown = vminfod.verdict === 'fail';
  if (node.store.facts(zonename) === undefined) {
    return isDown
      ? fail(`none: vminfod ${vminfod.words}`, vminfod.remedy)
      : fail('none: vminfod does not know this VM', `vmadm get ${zonename}; ${RESTART}`);
  }
  const changed = monitor.changed.get(zonename);
  const age = changed === undefined ? '' : `, its last change ${inWords(Date.now() - changed)} ago`;
  const known = `known from vminfod${age}`;
  if (isDown) {
    // A problem of the node, reported there; this zone has what it needs.
    return ok(`${known}; nothing newer while vminfod is not there`);
  }
  let behind = await behindOf(target);
  if (behind !== null) {
    await delay(RECHECK_MS);
    behind = await behindOf(target);
  }
  return behind === null ? ok(known) : warn(`${known}, but ${behind}`, RESTART);
}

/** How vminfod's own copy differs from the platform and the files; null where it does not. */
async function behindOf({ node, health, zone }: DoctorTarget): Promise<string | null> {
  const { zonename } = zone;
  const object = await askVminfod(node.vminfodUrl, zonename, ASK_MS).catch(messageOf);
  if (typeof object === 'string') {
    return `vminfod does not answer for it: ${object}`;
  }
  if (object === undefined) {
    return 'vminfod answers with no object';
  }
  const vm = { zoneState: ownString(object, 'zone_state'), zoneid: ownNumber(object, 'zoneid') };
  const why = whyBehind(vm, zone, health.states);
  // Those are of when the doctor began: the platform is asked for what is true now.
  if (why !== null && whyBehind(vm, zone, node.platform.liveZones()) !== null) {
    return `vminfod is behind: ${why}`;
  }
  if (vm.zoneState !== node.store.facts(zonename)?.zoneState) {
    return 'its stream is behind its own answers';
  }
  const data = node.store.data(zonename);
  return data !== undefined && (await compareFiles(object, data)) === 'differs'
    ? 'vminfod is behind: it does not show what the config files hold (guests get what they hold)'
    : null;
}

async function checkConfig({ monitor, zone }: DoctorTarget, name: ConfigName): Promise<Finding> {
  const path = pathOf(monitor.configDirectory(zone), name);
  const remedy = `vmadm get ${zone.zonename} shows what vminfod remembers; write the file from that`;
  try {
    const { bytes, fault } = await checkFile(path, name);
    if (fault === null) {
      return ok(`${inBytes(bytes)}, well formed`);
    }
    if (name === 'metadata' && fault === BLANK) {
      return warn(`${path} is blank: the next write of the guest makes it again`, remedy);
    }
    const isMap = name !== 'metadata' || fault.includes('_metadata');
    const found = `${path} (${inBytes(bytes)}) cannot be used: ${fault}`;
    return fail(
      `${found}: until it is repaired, guests see none of it${isMap ? '' : ', and can write nothing'}`,
      fault === 'not a regular file' ? 'put a regular file in its place' : remedy,
    );
  } catch (err) {
    return codeOf(err) === 'ENOENT'
      ? skip('the VM has none')
      : fail(messageOf(err), 'repair the file system or the permissions');
  }
}

/** Reads what the agent would serve: a file that cannot be read is a step of its own. */
async function checkNamespaces({ node, zone }: DoctorTarget): Promise<Finding> {
  const data = node.store.data(zone.zonename);
  const vm = data?.vm();
  if (data === undefined || vm === undefined) {
    return skip('not known before the VM data is');
  }
  try {
    const loaded = await data.load({ key: null });
    const listed = namespacesOf(vm);
    const lost = lostNamespaces(loaded.metadata().internal, listed).map(printableKey);
    if (lost.length === 0) {
      return ok(
        listed.length === 0 ? 'none' : `${counted(listed.length, 'namespace')}, all listed`,
      );
    }
    const names = JSON.stringify([...listed, ...lost]);
    return warn(
      `internal_metadata has keys of ${lost.join(', ')}, which internal_metadata_namespaces does not list: guests read and write their own in place of them`,
      `vmadm update ${String(own(vm, 'uuid'))} <<<'{"internal_metadata_namespaces":${names}}'`,
    );
  } catch (err) {
    return skip(messageOf(err));
  }
}

/**
 * Takes the lock and releases it. Through takeLock, since closing a descriptor of the file that we
 * opened beside it would drop a lock that our own writer holds.
 */
async function checkLock({ node, zone }: DoctorTarget): Promise<Finding> {
  const { store, paths } = node;
  const path = paths.vmConfigLock(store.facts(zone.zonename)?.uuid ?? zone.zonename);
  if (!existsSync(path)) {
    return ok('free, never taken');
  }
  try {
    const lock = await takeLock(path, { timeoutMs: LOCK_MS });
    lock.release();
    return ok('free');
  } catch (err) {
    if (codeOf(err) !== 'ETIMEDOUT') {
      return fail(messageOf(err), 'guests cannot change metadata: repair what it names');
    }
  }
  const { writer, holds } = store.status();
  const write = writer.inProgress.find(({ zonename }) => zonename === zone.zonename);
  const openers = await openersOf(path);
  if (openers.length === 0 && (write !== undefined || holds > 0)) {
    return ok('held by a write of the agent itself');
  }
  const holder = openers.join(', ') || 'a process that cannot be seen';
  if (write === undefined) {
    // Each vmadm update holds it for a moment, and health knows of no problem while nobody waits.
    return ok(`held by ${holder}, and no write of the guest waits for it`);
  }
  return warn(
    `held by ${holder}; a write of the guest has waited for it for ${inWords(write.oldestMs)}`,
    'a vmadm update holds it for seconds; if it stays, see what that process does (pstack, pargs) and end it',
  );
}

async function checkDisk({ monitor, zone }: DoctorTarget): Promise<Finding> {
  const directory = monitor.configDirectory(zone);
  const { leastRoom } = monitor.freeSpace;
  const free = await monitor.freeSpace.now(zone);
  if (free === 'not asked') {
    return skip('not asked: other zones have file systems that are not answering');
  }
  if (free === 'not answering') {
    return warn(`the file system of ${directory} is not answering`, 'zpool status -x; df');
  }
  if (free instanceof SystemError) {
    return free.code === 'ENOENT'
      ? skip(`${directory} is not there`)
      : fail(free.message, 'repair the file system: zpool status -x');
  }
  const found = `${inBytes(free)} free in ${directory}`;
  const remedy = `vmadm update ${zone.zonename} quota=GIB`;
  if (free < leastRoom) {
    const needed = `a write may need ${inBytes(leastRoom)}`;
    return fail(`${found}: writes of the guest fail (${needed})`, remedy);
  }
  return free < SCARCE_BYTES ? warn(found, remedy) : ok(found);
}

async function checkLimits({ node, zone }: DoctorTarget): Promise<Finding> {
  try {
    const use = await node.store.metadataUse(zone.zonename);
    if (use === undefined) {
      return skip('not known');
    }
    const { bytes, bytesMax, keys, keysMax, fileBytes, fileBytesMax, refusals } = use;
    const shareOf = (used: number, most: number): string =>
      `${inBytes(used)} of ${inBytes(most)} (${Math.floor((100 * used) / most)} %)`;
    const parts = [
      ['bytes', bytes / bytesMax, shareOf(bytes, bytesMax)],
      ['keys', keys / keysMax, `${keys} of ${keysMax} keys`],
      ['file_bytes', fileBytes / fileBytesMax, `the file ${shareOf(fileBytes, fileBytesMax)}`],
    ] as const;
    const recent = refusals.filter(({ at }) => Date.now() - at < RECENT_REFUSAL_MS);
    const refused = recent.map(({ limit, count, at }) => {
      return `${counted(count, 'write')} refused by the limit "${limit}", the last ${inWords(Date.now() - at)} ago`;
    });
    const finding = [...parts.map(([, , text]) => text), ...refused].join(', ');
    const full = parts.filter(([, used]) => used >= NEARLY_FULL);
    if (full.length + refused.length === 0) {
      return ok(finding);
    }
    const raise = full.map(([name]) => `limits.metadata_${name}`).join(', ') || 'the limits';
    return warn(finding, `have the guest delete keys, or raise ${raise} in the configuration`);
  } catch (err) {
    return skip(messageOf(err));
  }
}

/**
 * Other processes that have a file open, and so may hold the lock on it, from /proc, which looks alike on illumos and
 * Linux for what is needed here. A lock cannot be asked for its holder without opening its file, and closing that
 * would drop a lock of our own (POSIX). Never rejects; what cannot be seen is left out.
 */
async function openersOf(path: string): Promise<string[]> {
  const openers: string[] = [];
  const file = await stat(path).catch(() => null);
  const pids = (await namesIn('/proc')).filter((name) => /^\d+$/.test(name));
  for (const pid of pids.filter((name) => file !== null && Number(name) !== process.pid)) {
    const directory = join('/proc', pid, 'fd');
    for (const fd of await namesIn(directory)) {
      // A process or a descriptor that is gone by now has it no more.
      const open = await stat(join(directory, fd)).catch(() => null);
      if (open?.dev === file?.dev && open?.ino === file?.ino) {
        openers.push(`pid ${pid} (${await commandOf(pid)})`);
        break;
      }
    }
    if (openers.length >= MOST_OPENERS) {
      break;
    }
  }
  return openers;
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

/** The program's name and its script's, without arguments: those may contain secrets. */
async function commandOf(pid: string): Promise<string> {
  const text = await readFile(join('/proc', pid, 'cmdline'), 'utf8').catch(() => '');
  const [program = '', script = ''] = text.split('\0');
  const name = program === '' ? 'unknown' : basename(program);
  return /^\/.*\.js$/.test(script) ? `${name} ${basename(script)}` : name;
}
