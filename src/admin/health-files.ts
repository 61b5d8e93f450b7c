/*
 * What health and the doctor find in a VM's config files: whether each can be used, and whether vminfod's copy
 * shows them. Values are compared here and go nowhere.
 *
 * vminfod can lose its watch of a directory and say nothing. Its VM object shows that: `last_modified` is the newest
 * modification time of metadata.json, routes.json, tags.json, lastexited and the zone's XML, in whole seconds
 * (smartos-live, vmload/index.js, getLastModified: Date.parse of a Date). A file that is newer, and older than
 * some seconds, was not noticed. The opposite proves nothing: an event of the zone renews `last_modified` and not the
 * contents (vminfod/vminfod.js, handleZoneEvent). So vminfod is asked for the VM, and the contents are compared, once
 * for each change of a file since the agent started.
 */
import { settlesWithin } from '../lib/bounded-wait';
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
/** A check that takes longer is not waited for. */
const ANSWER_MS = 1000;
/** vminfod is asked again for a VM that it did not show, as long as nothing changes. */
const RECHECK_MS = 10_000;

const statOf = openStat();

/** A config file as it is. */
interface FileCheck {
  readonly bytes: number;
  /** Why it cannot be used; null: it can. */
  readonly fault: string | null;
}

/** The files of one VM as they are now. */
export interface ConfigCheck {
  readonly damaged: readonly { readonly name: ConfigName; readonly text: string }[];
  /** When one of them was changed last, ms since 1970; 0: there is none. */
  readonly changedAt: number;
  readonly modifiedAt: number;
}

/** `unknown`: vminfod did not answer, or the files cannot be read, or are too large to be compared. */
type Comparison = 'shown' | 'differs' | 'unknown';

/** Checks the config files of one VM: reads a file again only when it changed. Holds no descriptor. */
export class ConfigChecks {
  /** As they were when they were read last. */
  private readonly files = new Map<ConfigName, FileCheck & { readonly stat: FileStat }>();
  private last: ConfigCheck = { damaged: [], changedAt: 0, modifiedAt: 0 };
  private isChecking = false;
  private compared: {
    readonly changedAt: number;
    readonly lastModified: number | undefined;
    readonly at: number;
    readonly result: Comparison;
  } | null = null;

  /** @param startedAt of the agent, ms since 1970 @param now the same clock, which is the file system's */
  constructor(
    private readonly vminfodUrl: string,
    private readonly startedAt: number,
    private readonly now: () => number = Date.now,
  ) {}

  /**
   * Never rejects. While a check is under way, and where one takes more than a second, it gives what the last one
   * found: a disk that hangs takes one thread of the pool.
   *
   * @param directory the VM's `<zonepath>/config`, as a path of this machine
   */
  async check(directory: string): Promise<ConfigCheck> {
    if (!this.isChecking) {
      this.isChecking = true;
      const check = this.checkNow(directory).then((found) => {
        this.last = found;
        this.isChecking = false;
      });
      await settlesWithin(check, ANSWER_MS);
    }
    return this.last;
  }

  private async checkNow(directory: string): Promise<ConfigCheck> {
    const damaged: { name: ConfigName; text: string }[] = [];
    let [changedAt, modifiedAt] = [0, 0];
    for (const name of CONFIG_NAMES) {
      const path = pathOf(directory, name);
      try {
        const stat = statOf(path)?.slice();
        let file = this.files.get(name);
        if (stat === undefined) {
          this.files.delete(name);
          continue;
        }
        changedAt = Math.max(changedAt, changedMsOf(stat));
        modifiedAt = Math.max(modifiedAt, modifiedMsOf(stat));
        if (file === undefined || !sameStat(file.stat, stat)) {
          this.files.delete(name);
          if (this.now() - changedMsOf(stat) < WRITTEN_MS) {
            continue;
          }
          file = { ...(await checkFile(path, name)), stat };
          this.files.set(name, file);
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
    return { damaged, changedAt, modifiedAt };
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
    const { changedAt, modifiedAt } = this.last;
    const isNewer =
      lastModified !== undefined && Math.floor(modifiedAt / 1000) * 1000 > lastModified;
    const isDue = this.now() - changedAt > SHOWN_MS;
    if (!isDue || (!isNewer && changedAt <= this.startedAt)) {
      return false;
    }
    const before = this.compared;
    let result: Comparison | null = null;
    if (before?.changedAt === changedAt) {
      const isNew = before.lastModified !== lastModified || this.now() - before.at >= RECHECK_MS;
      result = isNew && before.result !== 'shown' ? null : before.result;
    }
    if (result === null) {
      // Otherwise one of the next evaluations asks about it.
      if (!mayAsk()) {
        return false;
      }
      result = await this.compare(data);
      this.compared = { changedAt, lastModified, at: this.now(), result };
    }
    return result === 'differs' || (result === 'unknown' && isNewer);
  }

  private async compare(data: VmData): Promise<Comparison> {
    if ([...this.files.values()].some(({ bytes }) => bytes > MOST_COMPARED_BYTES)) {
      return 'unknown';
    }
    // Whether vminfod answers at all is judged for the node.
    const vm = await askVminfod(this.vminfodUrl, data.zonename, ASK_MS).catch(() => undefined);
    return vm === undefined ? 'unknown' : compareFiles(vm, data);
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

/** Whether a copy of a VM shows what its config files hold. Never rejects. */
export async function compareFiles(vm: JsonObject, data: VmData): Promise<Comparison> {
  try {
    const files = await data.load({ key: null });
    const { customer, internal } = files.metadata();
    return sameMap(customer, ownMap(vm, 'customer_metadata')) &&
      sameMap(internal, ownMap(vm, 'internal_metadata')) &&
      sameMap(files.tags(), ownMap(vm, 'tags')) &&
      sameMap(files.routes(), ownMap(vm, 'routes'))
      ? 'shown'
      : 'differs';
  } catch {
    // A file that cannot be read is found by `checkFile`.
    return 'unknown';
  }
}

function sameMap(a: MetadataMap, b: ReadonlyMap<string, unknown>): boolean {
  const isSame = (x: unknown, y: unknown): boolean =>
    x === y || JSON.stringify(x) === JSON.stringify(y);
  return (
    a.size === b.size && [...a].every(([key, value]) => b.has(key) && isSame(value, b.get(key)))
  );
}
