/*
 * The data of all VMs: the agent's requests read a zone's data here, and changes go from here to the writer.
 *
 *   vminfod --stream--> VmCache ------+
 *   <zonepath>/config/*.json ---------+--> data(zonename): VmData
 *   change -> MetadataWriter -> metadata.json
 *
 * Which zones exist libzonecfg says, not vminfod. An idle zone costs its VM's JSON text and an entry here: no descriptor,
 * no timer, nothing parsed.
 */
import assert from 'node:assert';
import { join } from 'node:path';
import { SystemError } from '../lib/errors';
import { printableKey, type Logger, type ZoneLog } from '../log';
import type { DataVersion } from '../platform/files';
import { lostNamespaces, namespacesOf } from '../metadata/keys';
import {
  isZonename,
  type Change,
  type ChangeResult,
  type JsonObject,
  type MetadataMap,
  type MetadataMaps,
  type MetadataNeed,
  type MetadataUse,
  type VmData,
  type VmFacts,
} from '../metadata/vm-data';
import type { ConfigFiles, LoadedMetadata } from './config-files';
import { VmCache, type VmChange } from './vm-cache';
import { Vminfod } from './vminfod-client';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const NO_UUID: ChangeResult = { kind: 'failed', text: 'VM data is not available yet.' };

/** The VM that a change is for. */
export interface WriteTarget {
  readonly zonename: string;
  readonly uuid: string;
  /** Host path of `<zonepath>/config`. */
  readonly directory: string;
  readonly log: Pick<ZoneLog, 'debug' | 'info' | 'warn' | 'error'>;
}

/** What a VM's metadata may come to. */
export interface MetadataLimits {
  /** Of what a guest can write (customer_metadata, and `_pw` keys): names and values as JSON, bytes. */
  readonly metadataBytes: number;
  readonly metadataKeys: number;
  /** The file as a whole, the operator's data included, bytes. */
  readonly fileBytes: number;
}

/** writes/writer.ts, which imports this file and not the other way. */
export interface MetadataWriter {
  readonly limits: MetadataLimits;
  /** Never rejects; settles within 30 s. */
  change(target: WriteTarget, change: Change): Promise<ChangeResult>;
  /** It is gone: what waits is failed, what is being committed ends by itself. */
  remove(target: WriteTarget): void;
  /** vminfod shows this of a VM's metadata. */
  observe(zonename: string, metadata: MetadataMaps): void;
  /** Writes again what a stale copy of vminfod's has undone. Cheap: called at every request. */
  restoreUndone(target: WriteTarget): void;
  refusals(zonename: string): readonly LimitRefusals[];
  status(): WriterStatus;
  leases(): LeaseStatus;
  /** Changes in progress are finished, within `graceMs`: 4 s when it is left out. Idempotent. */
  stop(graceMs?: number): Promise<void>;
}

/** Refusals by one limit of a VM. */
export interface LimitRefusals {
  readonly limit: NonNullable<ChangeResult['limit']>;
  readonly count: number;
  /** Of the last one, ms since 1970. */
  readonly at: number;
}

/** What a VM's queue is doing. */
export type Stage = 'idle' | 'slowed' | 'locking' | 'queued' | 'writing';

export interface QueueStatus {
  readonly zonename: string;
  readonly stage: Stage;
  readonly waiting: number;
  readonly committing: number;
  readonly oldestMs: number;
}

/** How the last change of a VM that ended failed, where waiting too long was not the reason. */
export interface WriteFailure {
  readonly zonename: string;
  /** An errno, an exit code, or the limit that was met (`keys`, `size`). */
  readonly code: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

export interface WriterStatus {
  readonly stored: number;
  readonly failed: number;
  /** PUTIF and DELETEIF of a key that had changed. */
  readonly changed: number;
  readonly joined: number;
  readonly timedOut: number;
  /** VMs whose changes are in progress. */
  readonly inProgress: readonly QueueStatus[];
  /** VMs whose last change failed. */
  readonly failing: readonly WriteFailure[];
}

/** Locks that are kept after a write until vminfod shows it. */
export interface LeaseStatus {
  readonly holds: number;
  /** Ended before vminfod showed the change. */
  readonly unconfirmed: number;
  /** Changes that a stale copy of vminfod's had undone, made again. */
  readonly restored: number;
}

interface StoreOptions {
  readonly vminfodUrl: string;
  readonly files: ConfigFiles;
  readonly writer: MetadataWriter;
  readonly log: Logger;
}

/** What a zone has used of each limit of its metadata, and what the limits have refused. */
export type MetadataReport = NonNullable<Awaited<ReturnType<Store['metadataUse']>>>;

export type StoreStatus = ReturnType<Store['status']>;

/** The one place for VM data. Started once, stopped once, its writer with it. */
export class Store {
  readonly table: VmCache;
  private readonly vminfod: Vminfod;
  private readonly parts: Parts;
  private readonly tracked = new Map<string, TrackedVm>();
  /** By zone, the lost namespaces that were logged last. */
  private readonly missing = new Map<string, string>();

  constructor(private readonly options: StoreOptions) {
    const { vminfodUrl, writer, log } = options;
    const table = new VmCache((zonename, vm, metadata) => {
      writer.observe(zonename, metadata);
      this.warnOfLostNamespaces(zonename, vm, metadata.internal);
      const known = this.tracked.get(zonename);
      if (known !== undefined) {
        writer.restoreUndone(known.target);
      }
    });
    this.table = table;
    this.vminfod = new Vminfod(vminfodUrl, table, log);
    this.parts = { ...options, table };
  }

  start(): void {
    this.vminfod.start();
  }

  /** Idempotent. Changes in progress are finished, within `graceMs`: 4 s when it is left out. */
  async stop(graceMs?: number): Promise<void> {
    this.table.endAllWaits();
    await this.options.writer.stop(graceMs);
    await this.vminfod.stop();
  }

  /**
   * A zone exists. Tracked again under its name it gets the new path.
   *
   * @param hostZonepath the zonepath as a path of this machine
   */
  track(zonename: string, hostZonepath: string, log: ZoneLog): void {
    if (!isZonename(zonename)) {
      throw new SystemError('track', zonename, 'EINVAL', 'not a name of a zone');
    }
    const { table } = this;
    const target: WriteTarget = {
      zonename,
      directory: join(hostZonepath, 'config'),
      log,
      get uuid() {
        return table.facts(zonename)?.uuid ?? zonename;
      },
    };
    this.tracked.set(zonename, new TrackedVm(target, this.parts));
  }

  /** The zone is gone. */
  untrack(zonename: string): void {
    const known = this.tracked.get(zonename);
    if (known !== undefined) {
      this.tracked.delete(zonename);
      this.missing.delete(zonename);
      this.options.writer.remove(known.target);
      this.options.files.remove(known.target.directory);
    }
  }

  /** The data of a tracked zone; undefined for any other. */
  data(zonename: string): VmData | undefined {
    return this.tracked.get(zonename);
  }

  /** For operators; undefined for a zone that is not tracked. Rejects with a SystemError where its file cannot be read. */
  async metadataUse(zonename: string) {
    const known = this.tracked.get(zonename);
    if (known === undefined) {
      return undefined;
    }
    const loaded = await known.load({ key: null });
    return {
      ...loaded.use(),
      /** The file as a whole, the operator's data included. */
      fileBytes: loaded.fileBytes(),
      fileBytesMax: this.options.writer.limits.fileBytes,
      refusals: this.options.writer.refusals(zonename),
    };
  }

  /** What the data of a zone looks like now; of one that is not tracked, nothing. */
  version(zonename: string): DataVersion {
    const directory = this.tracked.get(zonename)?.target.directory;
    if (directory === undefined) {
      return { text: '', settled: true };
    }
    const files = this.options.files.version(directory);
    return { text: `${this.table.version(zonename)} ${files.text}`, settled: files.settled };
  }

  facts(zonename: string): VmFacts | undefined {
    return this.table.facts(zonename);
  }

  /** For each VM that comes, changes and goes. @returns ends it */
  onChanged(listener: (change: VmChange) => void): () => void {
    this.table.on('changed', listener);
    return () => this.table.off('changed', listener);
  }

  status() {
    return {
      vminfod: this.vminfod.status(),
      vms: this.table.size,
      tracked: this.tracked.size,
      /** Requests that wait for a VM object. */
      waiting: this.table.waiting,
      writer: this.options.writer.status(),
      ...this.options.writer.leases(),
    };
  }

  /** A migration can lose them, which makes their keys the guest's own. One warning for a VM until they change. */
  private warnOfLostNamespaces(zonename: string, vm: JsonObject, internal: MetadataMap): void {
    const namespaces = lostNamespaces(internal, namespacesOf(vm)).map(printableKey).join(', ');
    if (namespaces === '') {
      this.missing.delete(zonename);
    } else if (this.missing.get(zonename) !== namespaces) {
      this.missing.set(zonename, namespaces);
      this.options.log.warn(
        { zonename, namespaces },
        'internal metadata has keys of namespaces that the VM does not list',
      );
    }
  }
}

type Parts = Pick<StoreOptions, 'files' | 'writer'> & { readonly table: VmCache };

/** The data of a tracked VM; for one request also with metadata that was made ready for it. */
class TrackedVm implements VmData {
  constructor(
    readonly target: WriteTarget,
    private readonly parts: Parts,
    private readonly ready: LoadedMetadata | null = null,
  ) {}

  get zonename(): string {
    return this.target.zonename;
  }

  metadata(): MetadataMaps {
    return this.loadedMetadata.maps;
  }

  load(need: MetadataNeed): VmData | Promise<VmData> {
    const { target, parts } = this;
    parts.writer.restoreUndone(target);
    const ready = parts.files.load(target, need);
    return ready instanceof Promise
      ? ready.then((loaded) => new TrackedVm(target, parts, loaded))
      : new TrackedVm(target, parts, ready);
  }

  fileBytes(): number {
    return this.parts.files.sizeOf(this.target.directory);
  }

  use(): MetadataUse {
    const { bytes, keys } = this.loadedMetadata.use;
    const { metadataBytes: bytesMax, metadataKeys: keysMax } = this.parts.writer.limits;
    return { bytes, bytesMax, keys, keysMax };
  }

  tags(): ReadonlyMap<string, unknown> {
    return this.parts.files.tags(this.target);
  }

  routes(): ReadonlyMap<string, unknown> {
    return this.parts.files.routes(this.target);
  }

  vm(): JsonObject | undefined {
    return this.parts.table.vm(this.target.zonename);
  }

  loaded(): Promise<JsonObject | undefined> {
    const known = this.vm();
    return known === undefined ? this.parts.table.wait(this.zonename) : Promise.resolve(known);
  }

  change(change: Change): Promise<ChangeResult> {
    const { table, writer } = this.parts;
    const { target } = this;
    if (UUID.test(target.zonename) || table.facts(target.zonename) !== undefined) {
      return writer.change(target, change);
    }
    // The VM tool locks by the VM's uuid, which such a zone's name is not.
    return table.wait(target.zonename).then((vm) => {
      return vm === undefined ? NO_UUID : writer.change(target, change);
    });
  }

  private get loadedMetadata(): LoadedMetadata {
    assert(this.ready !== null, 'metadata is loaded before it is read');
    return this.ready;
  }
}
