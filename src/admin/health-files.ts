/*
 * What health and the doctor find in a VM's config files: whether each can be used, and whether vminfod's copy
 * shows them.
 *
 * vminfod can lose its watch of a directory and say nothing. Its VM object shows that: `last_modified` is the newest
 * modification time of metadata.json, routes.json, tags.json, lastexited and the zone's XML, in whole seconds
 * (smartos-live, vmload/index.js, getLastModified: Date.parse of a Date). A file that is newer, and older than
 * some seconds, was not noticed. That is cheap enough for every zone. The opposite proves nothing: an
 * event of the zone renews `last_modified` and not the contents (vminfod/vminfod.js, handleZoneEvent). So vminfod
 * is asked for the VM, and the contents are compared, once for each change of a file since the agent started.
 *
 * Values are compared here and go nowhere.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../lib/errors';
import {
  ownMap,
  parseJsonObject,
  type JsonObject,
  type MetadataMap,
  type VmData,
} from '../metadata/vm-data';
import {
  changedMsOf,
  modifiedMsOf,
  openStat,
  sameStat,
  sizeOf,
  type FileStat,
} from '../platform/files';
import { readText } from '../platform/metadata-text';
import { CONFIG_NAMES, MAX_METADATA_BYTES, pathOf, type ConfigName } from '../vm/config-files';
import { MAP_NAMES, MetadataIndex } from '../vm/metadata-index';
import { getText } from '../vm/vminfod-client';

/** vminfod shows a file's change within this. */
const SHOWN_MS = 5000;
/** A file that is being written in place is whole by then. */
const WRITTEN_MS = 1000;
/** Larger files are compared by the doctor only: that must not block the event loop. */
const MOST_COMPARED_BYTES = 512 * 1024;
const ASK_MS = 1000;
/** A read that takes longer is not waited for. */
const ANSWER_MS = 1000;
/** vminfod is asked again for a VM that it did not show, as long as nothing changes. */
const RECHECK_MS = 10_000;

/** A config file as it is. */
export interface FileCheck {
  readonly bytes: number;
  /** Why it cannot be used; null: it can. */
  readonly fault: string | null;
}

/** The files of one VM as they are now. */
export interface ConfigCheck {
  readonly damaged: readonly { readonly name: ConfigName; readonly text: string }[];
  /** When one of them was changed last, ms since 1970; 0: there is none. */
  readonly changedAt: number;
}

/** What is known of the files of one VM. */
interface KnownFiles {
  /** As they were when they were read last. */
  readonly files: Map<ConfigName, FileCheck & { readonly stat: FileStat }>;
  /** What the last check found. */
  last: ConfigCheck;
  /** The next one is under way. */
  isChecking: boolean;
  modifiedAt: number;
  /** The last change that vminfod was seen to show. */
  shownAt: number;
  /** The last comparison that did not find them shown, with the changes of both sides. */
  compared: { readonly of: string; readonly at: number; readonly result: Compared } | null;
}

/** `unknown`: vminfod did not answer, or the files are too large to be compared here. */
type Compared = 'shown' | 'differs' | 'unknown';

/** Checks the config files of all VMs: reads a file again only when it changed. Holds no descriptor. */
export class ConfigChecks {
  private readonly startedAt: number;
  private readonly stat = openStat();
  private readonly zones = new Map<string, KnownFiles>();

  /** @param now ms since 1970, the clock of the file system */
  constructor(
    private readonly vminfodUrl: string,
    private readonly now: () => number = Date.now,
  ) {
    this.startedAt = now();
  }

  /**
   * Never rejects. While a check of the same files is under way, or reads a file for more than a second, it gives what the
   * last one found: a disk that hangs takes one thread of the pool.
   *
   * @param directory the VM's `<zonepath>/config`, as a path of this machine
   */
  async check(zonename: string, directory: string): Promise<ConfigCheck> {
    const known = this.knownOf(zonename);
    if (known.isChecking) {
      return known.last;
    }
    known.isChecking = true;
    const damaged: { name: ConfigName; text: string }[] = [];
    let [changedAt, modifiedAt] = [0, 0];
    for (const name of CONFIG_NAMES) {
      const path = pathOf(directory, name);
      try {
        const stat = this.stat(path)?.slice();
        let file = known.files.get(name);
        if (stat === undefined) {
          known.files.delete(name);
          continue;
        }
        changedAt = Math.max(changedAt, changedMsOf(stat));
        modifiedAt = Math.max(modifiedAt, modifiedMsOf(stat));
        if (file === undefined || !sameStat(file.stat, stat)) {
          known.files.delete(name);
          if (this.now() - changedMsOf(stat) < WRITTEN_MS) {
            continue;
          }
          const reading = checkFile(path, name);
          const found = await Promise.race([reading, delay(ANSWER_MS, undefined, { ref: false })]);
          if (found === undefined) {
            const done = (): void => void (known.isChecking = false);
            void reading.then(done, done);
            return known.last;
          }
          file = { ...found, stat };
          known.files.set(name, file);
        }
        // A blank metadata.json is made again by the next write of the guest.
        if (file.fault !== null && !(name === 'metadata' && file.fault === BLANK)) {
          const text = `${name}.json cannot be used (${file.fault}): guests see none of it`;
          damaged.push({ name, text });
        }
      } catch (err) {
        if (codeOf(err) !== 'ENOTDIR' && codeOf(err) !== 'ENOENT') {
          damaged.push({ name, text: `${name}.json cannot be read (${codeOf(err)})` });
        }
      }
    }
    known.isChecking = false;
    known.modifiedAt = modifiedAt;
    known.last = { damaged, changedAt };
    return known.last;
  }

  /**
   * Whether vminfod should show the files, as `check` found them, and does not. Never rejects.
   *
   * @param lastModified of vminfod's copy, ms since 1970
   * @param mayAsk whether vminfod may be asked; called only where it would be
   */
  async isBehind(
    data: VmData,
    lastModified: number | undefined,
    mayAsk: () => boolean,
  ): Promise<boolean> {
    const known = this.knownOf(data.zonename);
    const { changedAt } = known.last;
    const isNewer = lastModified !== undefined && wholeSeconds(known.modifiedAt) > lastModified;
    const isDue = this.now() - changedAt > SHOWN_MS && known.shownAt !== changedAt;
    if (!isDue || (!isNewer && changedAt <= this.startedAt)) {
      return false;
    }
    const of = `${changedAt} ${lastModified ?? 0}`;
    if (known.compared?.of !== of || this.now() - known.compared.at >= RECHECK_MS) {
      // Otherwise one of the next evaluations asks about it.
      if (!mayAsk()) {
        return false;
      }
      const result = await this.compare(known, data);
      known.compared = { of, at: this.now(), result };
      if (result === 'shown') {
        known.shownAt = changedAt;
      }
    }
    const { result } = known.compared;
    return result === 'differs' || (result === 'unknown' && isNewer);
  }

  private async compare(known: KnownFiles, data: VmData): Promise<Compared> {
    if ([...known.files.values()].some(({ bytes }) => bytes > MOST_COMPARED_BYTES)) {
      return 'unknown';
    }
    try {
      const vm = await askVminfod(this.vminfodUrl, data.zonename, ASK_MS);
      if (vm === undefined) {
        return 'unknown';
      }
      return showsFiles(vm, await data.load({ key: null })) ? 'shown' : 'differs';
    } catch {
      // Whether vminfod answers at all is judged for the node.
      return 'unknown';
    }
  }

  private knownOf(zonename: string): KnownFiles {
    let known = this.zones.get(zonename);
    if (known === undefined) {
      known = {
        ...{ files: new Map(), last: { damaged: [], changedAt: 0 }, isChecking: false },
        ...{ modifiedAt: 0, shownAt: 0, compared: null },
      };
      this.zones.set(zonename, known);
    }
    return known;
  }

  /** Removes zones that are gone. */
  keepOnly(isHeld: (zonename: string) => boolean): void {
    for (const zonename of this.zones.keys()) {
      if (!isHeld(zonename)) {
        this.zones.delete(zonename);
      }
    }
  }
}

/** The fault of a file without any text. */
export const BLANK = 'blank';

/** Reads a config file as the agent does, on a thread. @throws the error of the system call that failed, ENOENT too */
export async function checkFile(path: string, name: ConfigName): Promise<FileCheck> {
  const text = await readText(path, MAX_METADATA_BYTES, 0);
  const bytes = sizeOf(text.stat);
  if (text.kind === 'refused') {
    // It is whole the next time.
    return { bytes, fault: text.reason === 'changed while it was read' ? null : text.reason };
  }
  const index = new MetadataIndex(text.offsets);
  const wrong = MAP_NAMES.filter((map) => {
    return name === 'metadata' && ['other', 'null'].includes(index.map(map).state);
  });
  const names = wrong.map((map) => `${map}_metadata`).join(' and ');
  return { bytes, fault: names === '' ? null : `no JSON object in ${names}` };
}

/** vminfod's own copy of a VM. @throws SystemError: no answer, or no such VM */
export async function askVminfod(
  url: string,
  zonename: string,
  limitMs: number,
): Promise<JsonObject | undefined> {
  const path = `/vms/${encodeURIComponent(zonename)}`;
  return parseJsonObject(await getText(url, path, AbortSignal.timeout(limitMs)));
}

/** Whether a copy of a VM shows what the config files hold. @throws SystemError: they cannot be read */
export function showsFiles(vm: JsonObject, data: VmData): boolean {
  const { customer, internal } = data.metadata();
  return (
    sameMap(customer, ownMap(vm, 'customer_metadata')) &&
    sameMap(internal, ownMap(vm, 'internal_metadata')) &&
    sameMap(data.tags(), ownMap(vm, 'tags')) &&
    sameMap(data.routes(), ownMap(vm, 'routes'))
  );
}

function sameMap(a: MetadataMap, b: ReadonlyMap<string, unknown>): boolean {
  const isSame = (x: unknown, y: unknown): boolean =>
    x === y || JSON.stringify(x) === JSON.stringify(y);
  return (
    a.size === b.size && [...a].every(([key, value]) => b.has(key) && isSame(value, b.get(key)))
  );
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
