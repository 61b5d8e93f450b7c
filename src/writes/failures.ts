/*
 * What is answered for a change that was not made: the fixed words that guests are told, and the limit
 * of the zone that was met, if one was. No path, no value, no word of the platform gets out.
 */
import { codeOf } from '../lib/errors';
import type { ChangeResult } from '../metadata/vm-data';
import { failed, type Stage } from './backend';

/** What is not listed is told in general words. */
const WORDS: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'Could not update metadata: no space left.'],
  ['EDQUOT', 'Could not update metadata: quota exceeded.'],
  ['EROFS', 'Could not update metadata: read-only file system.'],
  ['EBADMSG', 'Metadata file is damaged; ask the operator.'],
  ['EFBIG', 'Metadata is full.'],
  ['ETIMEDOUT', 'Could not update metadata: timed out.'],
]);
const TOO_MANY = 'Too many metadata updates.';

/** For no reason that would help the guest. */
export const NOT_MADE: ChangeResult = failed('Could not update metadata.');
/** Too many changes wait already: this one took nothing of the VM's share of writes. */
export const NO_ROOM: ChangeResult = { ...failed(TOO_MANY), free: true, limit: 'waiting-writes' };

const LATE: ChangeResult = failed('Could not update metadata: timed out.');
const LOCKED: ChangeResult = failed('Could not update metadata: configuration is locked.');
const SLOWED: ChangeResult = { ...failed(TOO_MANY), limit: 'writes' };

/** For a fault that hit the change. */
export function failedBy(fault: unknown): ChangeResult {
  const words = WORDS.get(codeOf(fault));
  return words === undefined ? NOT_MADE : failed(words);
}

/** For somebody who has waited too long, by what his change's lane was doing then. */
export function lateIn(stage: Stage): ChangeResult {
  switch (stage) {
    case 'locking':
      return LOCKED;
    case 'slowed':
      return SLOWED;
    case 'idle':
    case 'queued':
    case 'writing':
      return LATE;
  }
}
