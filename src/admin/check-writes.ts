/*
 * The doctor's steps for writes: the lock of the VM's configuration, and room on its disk.
 */
import { existsSync } from 'node:fs';
import { codeOf, messageOf } from '../lib/errors';
import { takeLock } from '../platform/lock';
import { fail, ok, skip, warn, type DoctorTarget, type Step } from './doctor-context';
import { freeSpace } from '../platform/files';
import { openersOf } from './file-openers';
import { counted, inBytes, inWords } from './format';

/** A lock that is held for longer than a write takes. */
const LOCK_MS = 300;
const SCARCE_BYTES = 16 * 1024 * 1024;

/**
 * The steps that a guest's change needs: the platform's lock, and room on the disk. Changes no file of the
 * VM.
 */
export async function checkWrites(patient: DoctorTarget): Promise<Step[]> {
  return [await checkLock(patient), await checkDisk(patient), await checkLimits(patient)];
}

/** A limit that is used up to here will be met. */
const NEARLY_FULL = 0.8;
/** A refusal is news for this long. */
const RECENT_REFUSAL_MS = 60 * 60_000;

async function checkLimits({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'metadata limits';
  try {
    const use = await visit.node.store.metadataUse(zone.zonename);
    if (use === undefined) {
      return skip(step, 'not known');
    }
    const { bytes, bytesMax, keys, keysMax, fileBytes, fileBytesMax, refusals } = use;
    const parts = [
      { name: 'limits.metadata_bytes', used: bytes / bytesMax, text: shareOf(bytes, bytesMax) },
      { name: 'limits.metadata_keys', used: keys / keysMax, text: `${keys} of ${keysMax} keys` },
      {
        name: 'limits.metadata_file_bytes',
        used: fileBytes / fileBytesMax,
        text: `the file ${shareOf(fileBytes, fileBytesMax)}`,
      },
    ];
    const recent = refusals.filter(({ at }) => Date.now() - at < RECENT_REFUSAL_MS);
    const told = recent.map(({ limit, count, at }) => {
      return `${counted(count, 'write')} refused by the limit "${limit}", the last ${inWords(Date.now() - at)} ago`;
    });
    const finding = [...parts.map(({ text }) => text), ...told].join(', ');
    const full = parts.filter(({ used }) => used >= NEARLY_FULL).map(({ name }) => name);
    if (full.length + told.length === 0) {
      return ok(step, finding);
    }
    const raise = full.length === 0 ? 'the limits' : full.join(', ');
    return warn(
      step,
      finding,
      `have the guest delete keys, or raise ${raise} in the configuration`,
    );
  } catch (err) {
    return skip(step, messageOf(err));
  }
}

function shareOf(used: number, most: number): string {
  return `${inBytes(used)} of ${inBytes(most)} (${Math.floor((100 * used) / most)} %)`;
}

/**
 * Takes the lock and gives it back. Through takeLock, since closing a descriptor of the file that we
 * opened beside it would drop a lock that our own writer holds.
 */
async function checkLock({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'config lock';
  const { store, paths } = visit.node;
  const path = paths.vmConfigLock(store.facts(zone.zonename)?.uuid ?? zone.zonename);
  if (!existsSync(path)) {
    return ok(step, 'free, never taken');
  }
  try {
    const lock = await takeLock(path, { timeoutMs: LOCK_MS });
    lock.release();
    return ok(step, 'free');
  } catch (err) {
    if (codeOf(err) !== 'ETIMEDOUT') {
      return fail(step, messageOf(err), 'guests cannot change metadata: mend what it names');
    }
  }
  const { writer, holds } = store.status();
  const write = writer.inProgress.find(({ zonename }) => zonename === zone.zonename);
  const openers = await openersOf(path);
  if (openers.length === 0 && (write !== undefined || holds > 0)) {
    return ok(step, 'held by a write of the agent itself');
  }
  const who = openers.map(({ pid, command }) => `pid ${pid} (${command})`).join(', ');
  const holder = who === '' ? 'a process that cannot be seen' : who;
  const waits =
    write === undefined
      ? ''
      : `; a write of the guest has waited for it for ${inWords(write.oldestMs)}`;
  const remedy =
    'a vmadm update holds it for seconds; if it stays, look at that process (pstack, pargs) and end it';
  const found = `held by ${holder}${waits}`;
  return warn(step, found, remedy);
}

async function checkDisk({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'disk';
  const directory = visit.node.paths.host(`${zone.facts.zonepath}/config`);
  try {
    const free = await freeSpace(directory);
    const found = `${inBytes(free)} free in ${directory}`;
    const remedy = `free some, or raise the quota: vmadm update ${zone.zonename} quota=GIB`;
    // A write is a second file beside the first.
    if (free < visit.node.config().limits.metadata_bytes / 64) {
      return fail(step, `${found}: writes of the guest fail`, remedy);
    }
    return free < SCARCE_BYTES ? warn(step, found, remedy) : ok(step, found);
  } catch (err) {
    return codeOf(err) === 'ENOENT'
      ? skip(step, `${directory} is not there`)
      : fail(step, messageOf(err), 'mend the file system');
  }
}
