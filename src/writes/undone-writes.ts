/*
 * Writes that were answered with success and that vminfod has not shown since: the ones that a `vmadm update` can
 * undo without anybody wanting it, since vmadm rebuilds metadata.json from vminfod's copy of the VM.
 *
 *   write ---> noted ---vminfod shows it while the file is ours---> removed
 *                |------5 min-----------------------------------------^
 *                |------the file is another one, and the key is as it was before the write---> written again, once
 *
 * That is how a stale copy differs from an operator's will: what vminfod has shown, its copy has, and who
 * reverts it then means it. Where the file is already another one when vminfod shows the write, vmadm read the copy
 * before that. A change to any third value stays too. Whoever sets a key back to exactly what
 * it was, within five minutes, while vminfod is stuck, counts as a stale copy once; the second time stands.
 *
 * Holds no value of before, only its digest; of long values nothing is noted.
 */
import { hash } from 'node:crypto';
import { Lru } from '../lib/lru';
import type { MetadataMaps, NewValue } from '../metadata/vm-data';
import { openStat, sameStat, type FileStat } from '../platform/files';
import { pathOf } from '../vm/config-files';
import { MAP_NAMES, type MapName } from '../vm/metadata-index';
import type { WriteTarget } from '../vm/store';
import type { MapEdits, PlannedChange } from './plan';

/**
 * A stale copy comes from a `vmadm update` that waited for the lock, or came soon after; it then keeps the lock for as
 * long as it waits for vminfod itself, which can be a minute.
 */
const NOTED_MS = 5 * 60_000;
/** A write is made or given up within 29 s. */
const PENDING_MS = 30_000;
/** Of one value, and of all that are noted; bytes. */
const MOST_VALUE_BYTES = 64 * 1024;
const MOST_BYTES = 8 * 1024 * 1024;
/** Values of a key that a stale copy may have: those before each of its last writes. */
const MOST_BEFORE = 16;

const statAt = openStat();

interface MetadataKey {
  readonly map: MapName;
  readonly key: string;
}

interface NotedKey extends MetadataKey {
  readonly after: string | undefined;
  readonly before: readonly string[];
  /** vminfod has shown it, when the file was another's already. */
  isShown?: boolean;
}

interface Noted {
  /** Host path of the file. */
  readonly path: string;
  readonly keys: Map<string, NotedKey>;
  /** As we left it; null where there was none. */
  stat: FileStat | null;
  /** On a monotonic clock, ms. */
  until: number;
  /** What was handed out is not handed out again before this. */
  pendingUntil: number;
}

/** The value of a key before a batch; undefined where there was none, a symbol where it is not known. */
type ValueBefore = (map: MapName, key: string) => unknown;

/** Of all VMs. A stat is a metadata file's. */
export class UndoneWrites {
  private readonly noted = new Lru<Noted>(MOST_BYTES);

  /** A write is on disk. @param stat of the new file */
  wrote(
    { zonename, directory }: Pick<WriteTarget, 'zonename' | 'directory'>,
    edits: MapEdits,
    stat: FileStat | null,
    valueBefore: ValueBefore,
  ): void {
    const { keys = new Map<string, NotedKey>(), pendingUntil = 0 } = this.noted.get(zonename) ?? {};
    for (const map of MAP_NAMES) {
      for (const [key, after] of edits[map]) {
        const name = idOf(map, key);
        const value = valueBefore(map, key);
        // A long one was not read: it could not be distinguished from another.
        if (isShort(after) && isKnown(value)) {
          const before = [...(keys.get(name)?.before ?? []), digestOf(value)];
          keys.set(name, { map, key, after, before: before.slice(-MOST_BEFORE) });
        } else {
          keys.delete(name);
        }
      }
    }
    this.noted.delete(zonename);
    if (keys.size > 0) {
      const until = performance.now() + NOTED_MS;
      const bytes = [...keys.values()].reduce((sum, key) => sum + sizeOf(key), 0);
      const path = pathOf(directory, 'metadata');
      this.noted.set(zonename, { path, keys, stat, until, pendingUntil }, bytes);
    }
  }

  /**
   * vminfod shows this: what it has of ours cannot be undone by its copy any more. It may have been by then, from the
   * copy of before, so nothing is concluded while the file is another one.
   */
  shown(zonename: string, metadata: MetadataMaps): void {
    const noted = this.noted.get(zonename);
    if (noted === undefined) {
      return;
    }
    const shown = [...noted.keys.values()].filter(({ map, key, after }) => {
      return after === undefined ? !metadata[map].has(key) : metadata[map].get(key) === after;
    });
    if (shown.length === 0) {
      return;
    }
    if (isSame(statNow(noted.path), noted.stat)) {
      this.removeKeys(zonename, noted, shown);
    } else {
      // Whether the other file keeps it is not known yet.
      shown.forEach((key) => (key.isShown = true));
    }
  }

  /**
   * What is to be written again where the file is not the one that we left, only where the key's value is one of
   * before: the writer checks that under the lock. To whoever has not got the lock it is handed out again only after
   * the time in which a write is made or fails, since another process may keep the lock for long.
   *
   * @param stat of the file, by whoever has the lock
   */
  take(zonename: string, stat?: FileStat | null): readonly PlannedChange[] {
    const noted = this.noted.get(zonename);
    const now = performance.now();
    if (noted === undefined || noted.until < now) {
      this.remove(zonename);
      return [];
    }
    if (isSame(stat === undefined ? statNow(noted.path) : stat, noted.stat)) {
      return [];
    }
    if (stat === undefined) {
      if (noted.pendingUntil > now) {
        return [];
      }
      noted.pendingUntil = now + PENDING_MS;
    }
    return [...noted.keys.values()].map(({ map, key, after, before }) => {
      const onlyIf = (value: unknown): boolean =>
        value !== after && isKnown(value) && before.includes(digestOf(value));
      return after === undefined
        ? { kind: 'remove', map, key, onlyIf }
        : { kind: 'set', map, key, value: after, onlyIf };
    });
  }

  /**
   * What was taken was compared with the file under the lock, and a batch is on disk since. Written again is each once:
   * what undoes it again means it. A third value is meant too. What is intact may still be undone by a copy from
   * before it.
   *
   * @param stat of the file now
   */
  compared(
    zonename: string,
    taken: readonly PlannedChange[],
    edits: MapEdits,
    stat: FileStat | null,
    valueBefore: ValueBefore,
  ): void {
    const noted = this.noted.get(zonename);
    if (noted === undefined || taken.length === 0) {
      return;
    }
    // A copy, as a stat that was read can be part of all offsets of its file.
    noted.stat = stat?.slice() ?? null;
    noted.pendingUntil = 0;
    const settled = taken.filter((change) => {
      const { map, key } = change;
      const value = change.kind === 'set' ? change.value : undefined;
      return edits[map].has(key)
        ? isMade(edits, change)
        : valueBefore(map, key) !== value || noted.keys.get(idOf(map, key))?.isShown === true;
    });
    this.removeKeys(zonename, noted, settled);
  }

  /**
   * The lock is about to be released. A file that was replaced meanwhile was replaced by somebody who does not take
   * the lock, and so not by vmadm: that is meant.
   */
  released(zonename: string): void {
    const noted = this.noted.get(zonename);
    if (noted !== undefined && !isSame(statNow(noted.path), noted.stat)) {
      this.remove(zonename);
    }
  }

  remove(zonename: string): void {
    this.noted.delete(zonename);
  }

  private removeKeys(zonename: string, noted: Noted, keys: readonly MetadataKey[]): void {
    keys.forEach(({ map, key }) => noted.keys.delete(idOf(map, key)));
    if (noted.keys.size === 0) {
      this.remove(zonename);
    }
  }
}

function isSame(a: FileStat | null, b: FileStat | null): boolean {
  return a === null || b === null ? a === b : sameStat(a, b);
}

/** To be compared at once. */
function statNow(path: string): FileStat | null {
  try {
    return statAt(path);
  } catch {
    // Whoever reads the file meets the fault too, and logs it.
    return null;
  }
}

function isShort(value: NewValue | undefined): value is string | undefined {
  return value === undefined || (typeof value === 'string' && value.length <= MOST_VALUE_BYTES);
}

/** False for a long value, which is not read, or as bytes. */
function isKnown(value: unknown): boolean {
  return typeof value !== 'symbol' && !Buffer.isBuffer(value);
}

/** Whether a batch edits the key as the change says. Another value is one that the guest has set meanwhile. */
export function isMade(edits: MapEdits, change: PlannedChange): boolean {
  const map = edits[change.map];
  const value = change.kind === 'set' ? change.value : undefined;
  return map.has(change.key) && map.get(change.key) === value;
}

/** Of a key among those of both maps. */
export function idOf(map: MapName, key: string): string {
  return `${map}\0${key}`;
}

function sizeOf({ key, after, before }: NotedKey): number {
  return 2 * (key.length + (after?.length ?? 0)) + 100 * (1 + before.length);
}

function digestOf(value: unknown): string {
  const json = value === undefined ? 'absent' : JSON.stringify(value);
  return hash('sha256', json, 'base64');
}
