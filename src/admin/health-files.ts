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
import { codeOf } from '../lib/errors';
import {
  isJsonObject,
  own,
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
import { CONFIG_NAMES, pathOf, readConfigFile, type ConfigName } from '../vm/config-files';
import { getText } from '../vm/vminfod-client';

/** vminfod shows a file's change within this. */
const SHOWN_MS = 5000;
/** A file that is being written in place is whole by then. */
const WRITTEN_MS = 1000;
/** Larger files are parsed by the doctor only: parsing must not block the event loop. */
const MOST_PARSED_BYTES = 512 * 1024;
const ASK_MS = 1000;
/** vminfod is asked again for a VM that it did not show, as long as nothing changes. */
const RECHECK_MS = 10_000;

export interface DamagedFile {
  readonly name: ConfigName;
  readonly text: string;
}

/** The files of one VM as they are now. */
export interface ConfigCheck {
  readonly damaged: readonly DamagedFile[];
  /** When one of them was changed last, ms since 1970; 0: there is none. */
  readonly changedAt: number;
  /** A file changed since the start, vminfod has had the time to notice, and its contents were not compared. */
  readonly isUnproven: boolean;
  /** Whether vminfod should have shown a file that is newer than this, ms since 1970. */
  isNewerThan(lastModified: number | undefined): boolean;
}

/** `unknown`: vminfod did not answer, or the files are too large to be compared here. */
export type Compared = 'shown' | 'differs' | 'unknown';

interface Comparison {
  /** The change of the files and the time of vminfod's copy. */
  readonly of: string;
  readonly at: number;
  readonly result: Compared;
}

interface Known {
  readonly stat: FileStat;
  readonly damage: string | null;
}

/** Checks the config files of all VMs: reads a file again only when it changed. Holds no descriptor. */
export class ConfigChecks {
  private readonly startedAt: number;
  private readonly stat = openStat();
  /** By path. */
  private readonly known = new Map<string, Known>();
  private readonly paths = new Map<string, readonly string[]>();
  /** By zone, the last change that vminfod was seen to show. */
  private readonly shown = new Map<string, number>();
  private readonly changes = new Map<string, number>();
  /** By zone, a comparison that did not find it shown. */
  private readonly compared = new Map<string, Comparison>();

  /** @param now ms since 1970, the clock of the file system */
  constructor(
    private readonly vminfodUrl: string,
    private readonly now: () => number = Date.now,
  ) {
    this.startedAt = now();
  }

  /** @param directory the VM's `<zonepath>/config`, as a path of this machine */
  check(zonename: string, directory: string): ConfigCheck {
    const damaged: DamagedFile[] = [];
    let changedAt = 0;
    let modifiedAt = 0;
    const paths = CONFIG_NAMES.map((name) => pathOf(directory, name));
    this.paths.set(zonename, paths);
    CONFIG_NAMES.forEach((name, at) => {
      const path = paths[at] ?? '';
      try {
        const stat = this.stat(path);
        if (stat === null) {
          this.known.delete(path);
          return;
        }
        changedAt = Math.max(changedAt, changedMsOf(stat));
        modifiedAt = Math.max(modifiedAt, modifiedMsOf(stat));
        const damage = this.damageOf(path, name, stat);
        if (damage !== null) {
          damaged.push({ name, text: `${name}.json ${damage}: guests see none of it` });
        }
      } catch (err) {
        if (codeOf(err) !== 'ENOTDIR') {
          damaged.push({ name, text: `${name}.json cannot be read (${codeOf(err)})` });
        }
      }
    });
    this.changes.set(zonename, changedAt);
    const isDue = this.now() - changedAt > SHOWN_MS && this.shown.get(zonename) !== changedAt;
    return {
      damaged,
      changedAt,
      isUnproven: isDue && changedAt > this.startedAt,
      isNewerThan: (lastModified) =>
        isDue && lastModified !== undefined && wholeSeconds(modifiedAt) > lastModified,
    };
  }

  /** What the last comparison found, while it is recent and neither side has changed since; null: compare. */
  lastCompared(zonename: string, lastModified: number | undefined): Compared | null {
    const last = this.compared.get(zonename);
    return last?.of === this.versionOf(zonename, lastModified) && this.now() - last.at < RECHECK_MS
      ? last.result
      : null;
  }

  /** Asks vminfod for a VM, and compares its copy with the files. */
  async compare(
    zonename: string,
    data: VmData,
    lastModified: number | undefined,
  ): Promise<Compared> {
    const of = this.versionOf(zonename, lastModified);
    const changedAt = this.changes.get(zonename) ?? 0;
    const result = await this.ask(zonename, data);
    if (result === 'shown') {
      this.shown.set(zonename, changedAt);
      this.compared.delete(zonename);
    } else {
      this.compared.set(zonename, { of, at: this.now(), result });
    }
    return result;
  }

  private versionOf(zonename: string, lastModified: number | undefined): string {
    return `${this.changes.get(zonename) ?? 0} ${lastModified ?? 0}`;
  }

  private async ask(zonename: string, data: VmData): Promise<Compared> {
    const large = (this.paths.get(zonename) ?? []).some((path) => {
      const known = this.known.get(path);
      return known !== undefined && sizeOf(known.stat) > MOST_PARSED_BYTES;
    });
    try {
      const vm = large ? undefined : await askVminfod(this.vminfodUrl, zonename, ASK_MS);
      if (vm === undefined) {
        return 'unknown';
      }
      return showsFiles(vm, await data.load({ key: null })) ? 'shown' : 'differs';
    } catch {
      // Whether vminfod answers at all is judged for the node.
      return 'unknown';
    }
  }

  /** Removes zones that are gone. */
  keepOnly(isHeld: (zonename: string) => boolean): void {
    for (const zonename of this.paths.keys()) {
      if (!isHeld(zonename)) {
        this.remove(zonename);
      }
    }
  }

  private remove(zonename: string): void {
    for (const path of this.paths.get(zonename) ?? []) {
      this.known.delete(path);
    }
    this.paths.delete(zonename);
    this.shown.delete(zonename);
    this.changes.delete(zonename);
    this.compared.delete(zonename);
  }

  private damageOf(path: string, name: ConfigName, stat: FileStat): string | null {
    const known = this.known.get(path);
    if (known !== undefined && sameStat(known.stat, stat)) {
      return known.damage;
    }
    const seen = stat.slice();
    const damage = sizeOf(seen) > MOST_PARSED_BYTES ? null : damageIn(path, name);
    if (this.now() - changedMsOf(seen) < WRITTEN_MS) {
      return null;
    }
    this.known.set(path, { stat: seen, damage });
    return damage;
  }
}

/**
 * Why a config file cannot be used, to follow its name in a sentence; null: it can, or is not there.
 * @throws the error of the system call that failed
 */
export function damageIn(path: string, name: ConfigName): string | null {
  let file: ReturnType<typeof readConfigFile>;
  try {
    file = readConfigFile(path);
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return null;
    }
    throw err;
  }
  if (file.kind === 'refused') {
    return `is ${file.reason}`;
  }
  const text = file.bytes.toString('utf8');
  if (name === 'metadata' && text.trim() === '') {
    // The next write of the guest makes it again.
    return null;
  }
  const object = parseJsonObject(text);
  if (object === undefined) {
    return 'holds no JSON object';
  }
  const wrong = name === 'metadata' ? notMaps(object) : [];
  return wrong.length > 0 ? `has in ${wrong.join(' and ')} no JSON object` : null;
}

/** The members of metadata.json that are read as empty, since they are not maps. */
function notMaps(object: JsonObject): string[] {
  return ['customer_metadata', 'internal_metadata'].filter((name) => {
    const value = own(object, name);
    return value !== undefined && !isJsonObject(value);
  });
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
  return a.size === b.size && [...a].every(([key, value]) => b.has(key) && same(value, b.get(key)));
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
