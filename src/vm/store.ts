/*
 * The data of all VMs: who asks for a zone's data or changes it comes here.
 *
 *   vminfod --stream--> table ----+
 *   <zonepath>/config/*.json -----+--> data(zonename): VmData
 *   change -> writer -> metadata.json
 *
 * Zones are tracked by whoever knows which exist (libzonecfg does, vminfod is only asked for objects). An
 * idle zone costs its VM's JSON text and an entry here: no descriptor, no timer, nothing parsed.
 */
import { join } from 'node:path';
import { SystemError } from '../lib/errors';
import type { Logger, ZoneLog } from '../log';
import type {
  Change,
  ChangeResult,
  MetadataMaps,
  MetadataNeed,
  MetadataUse,
  VmData,
} from '../metadata/handler';
import { VmWaiters } from './vm-waiters';
import { ConfigFiles, type LoadedMetadata } from './config-files';
import { DataVersions, type DataVersion } from './data-version';
import type { GuestUse } from './metadata-index';
import type { MetadataLimits } from '../writes/plan';
import { FileWriter, type FileWriterOptions } from '../writes/file-writer';
import { NamespaceWatch } from './namespace-watch';
import { isZonename, type JsonObject, type VmFacts } from '../metadata/vm-data';
import { VmadmWriter, type VmadmWriterOptions } from '../writes/vmadm-writer';
import { Vminfod, type VminfodStatus } from './vminfod-client';
import { VmCache, type VmChange } from './vm-cache';
import { failed, type Target } from '../writes/backend';
import type { LimitRefusals } from '../writes/queue';
import type { WriteShare } from '../writes/rate-limit';
import { Writer, type WriterStatus } from '../writes/writer';

/** Longest wait of a request for a VM object that is not known yet. */
const LOADED_MS = 5000;
/** Nearly every zone is named by its VM's uuid. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const NO_UUID = failed('VM data is not available yet.');

export type WriterChoice =
  | ({ readonly kind: 'file' } & FileWriterOptions)
  | ({ readonly kind: 'vmadm' } & VmadmWriterOptions);

export interface StoreOptions {
  readonly vminfodUrl: string;
  readonly writer: WriterChoice;
  readonly share?: WriteShare;
  /** Tells stats of files that may be shared, see ConfigFiles. */
  readonly tick?: () => number;
  readonly log: Logger;
}

/** What a zone has used of each limit of its metadata, and what the limits have refused. */
export interface MetadataReport extends MetadataUse {
  /** The file as a whole, the operator's data included. */
  readonly fileBytes: number;
  readonly fileBytesMax: number;
  readonly refusals: readonly LimitRefusals[];
}

export interface StoreStatus {
  readonly vminfod: VminfodStatus;
  readonly vms: number;
  readonly tracked: number;
  /** Requests that wait for a VM object. */
  readonly waiting: number;
  readonly writer: WriterStatus;
  /** Locks held until vminfod shows a change, and how often it did not. */
  readonly holds: number;
  readonly unconfirmed: number;
  /** Changes that a stale copy of vminfod's had undone, made again. */
  readonly restored: number;
}

/** The one place for VM data. Started once, stopped once. */
export class Store {
  readonly table = new VmCache();
  private readonly vminfod: Vminfod;
  private readonly writer: Writer;
  private readonly fileWriter: FileWriter | null;
  private readonly files: ConfigFiles;
  private readonly limits: MetadataLimits;
  private readonly namespaces: NamespaceWatch;
  private readonly arrivals = new VmWaiters(LOADED_MS);
  private readonly versions = new DataVersions();
  private readonly tracked = new Map<string, TrackedVm>();

  constructor(options: StoreOptions) {
    this.files = new ConfigFiles(undefined, options.tick);
    const backend = backendOf({ ...options.writer, files: this.files });
    this.fileWriter = backend instanceof FileWriter ? backend : null;
    this.limits = backend.limits;
    this.writer = new Writer(backend, options.share);
    this.namespaces = new NamespaceWatch(options.log);
    this.vminfod = new Vminfod(
      {
        url: options.vminfodUrl,
        table: this.table,
        observe: (zonename, vm, metadata) => {
          this.fileWriter?.observe(zonename, metadata);
          this.namespaces.look(zonename, vm, metadata.internal);
          this.restoreUndone(this.tracked.get(zonename)?.target);
        },
      },
      options.log,
    );
    this.table.on('changed', ({ zonename, next }) => this.vmChanged(zonename, next));
  }

  start(): void {
    this.vminfod.start();
  }

  /** Idempotent. Changes under way are finished, within `graceMs`: 4 s when it is left out. */
  async stop(graceMs?: number): Promise<void> {
    this.arrivals.stop();
    await this.writer.stop(graceMs);
    await this.vminfod.stop();
  }

  /**
   * A zone exists. Tracked again under its name it gets the new path.
   *
   * @param hostZonepath the zonepath as a path of this machine
   */
  track(zonename: string, hostZonepath: string, log: ZoneLog): void {
    if (!isZonename(zonename)) {
      throw new SystemError('track', zonename, 'EINVAL', 'no name of a zone');
    }
    const { table } = this;
    const target: Target = {
      zonename,
      directory: join(hostZonepath, 'config'),
      log,
      get uuid() {
        return table.facts(zonename)?.uuid ?? zonename;
      },
    };
    const { table: vms, files, writer, limits } = this;
    const looked = (): void => this.restoreUndone(target);
    const parts = { table: vms, files, writer, limits, looked };
    const wait = (): Promise<JsonObject | undefined> => this.waitFor(zonename);
    this.tracked.set(zonename, new TrackedVm(target, parts, wait));
    if (!this.writer.busy(zonename)) {
      this.fileWriter?.clean(target.directory);
    }
  }

  /** The zone is gone. */
  untrack(zonename: string): void {
    const known = this.tracked.get(zonename);
    if (known !== undefined) {
      this.tracked.delete(zonename);
      this.writer.forget(zonename);
      this.fileWriter?.forget(known.target);
      this.files.remove(known.target.directory);
    }
  }

  /** The data of a tracked zone; undefined for any other. */
  data(zonename: string): VmData | undefined {
    return this.tracked.get(zonename);
  }

  /**
   * What a tracked zone has used of its limits, for operators. Undefined for any other. Rejects with a SystemError
   * where its file cannot be read.
   */
  async metadataUse(zonename: string): Promise<MetadataReport | undefined> {
    const known = this.tracked.get(zonename);
    if (known === undefined) {
      return undefined;
    }
    const loaded = await known.load({ key: null });
    return {
      ...loaded.use(),
      fileBytes: this.files.sizeOf(known.target.directory),
      fileBytesMax: this.limits.fileBytes,
      refusals: this.writer.refusals(zonename),
    };
  }

  /** What the data of a zone looks like now; of one that is not tracked, nothing. */
  version(zonename: string): DataVersion {
    const directory = this.tracked.get(zonename)?.target.directory;
    return directory === undefined
      ? { text: '', settled: true }
      : this.versions.of(directory, this.table.facts(zonename));
  }

  facts(zonename: string): VmFacts | undefined {
    return this.table.facts(zonename);
  }

  /** Tells of VMs that came, changed and went. Returns how to stop listening. */
  onChanged(listener: (change: VmChange) => void): () => void {
    this.table.on('changed', listener);
    return () => this.table.off('changed', listener);
  }

  status(): StoreStatus {
    return {
      vminfod: this.vminfod.status(),
      vms: this.table.size,
      tracked: this.tracked.size,
      waiting: this.arrivals.waiting,
      writer: this.writer.status(),
      holds: this.fileWriter?.holds.size ?? 0,
      unconfirmed: this.fileWriter?.holds.unconfirmed ?? 0,
      restored: this.fileWriter?.restored ?? 0,
    };
  }

  /** Writes again what a stale copy of vminfod's has undone; nobody waits for it. */
  private restoreUndone(target: Target | undefined): void {
    if (target !== undefined && this.fileWriter !== null) {
      for (const change of this.fileWriter.undoneChanges(target)) {
        void this.writer.change(target, change);
      }
    }
  }

  private waitFor(zonename: string): Promise<JsonObject | undefined> {
    if (this.vminfod.status().state === 'following') {
      // The stream has not shown it, and may never (vminfod loses watches): asking is worth a try.
      void this.vminfod.lookUp(zonename);
    }
    return this.arrivals.wait(zonename);
  }

  private vmChanged(zonename: string, next: VmFacts | undefined): void {
    if (next === undefined) {
      this.namespaces.forget(zonename);
    }
    if (next !== undefined && this.arrivals.waiting > 0) {
      const vm = this.table.vm(zonename);
      if (vm !== undefined) {
        this.arrivals.arrived(zonename, vm);
      }
    }
  }
}

function backendOf(choice: WriterChoice): FileWriter | VmadmWriter {
  return choice.kind === 'file' ? new FileWriter(choice) : new VmadmWriter(choice);
}

interface Parts {
  readonly table: VmCache;
  readonly files: ConfigFiles;
  readonly writer: Writer;
  readonly limits: MetadataLimits;
  /** Called when a request looks at the metadata. */
  readonly looked: () => void;
}

class TrackedVm implements VmData {
  readonly target: Target;
  private readonly parts: Parts;
  private readonly wait: () => Promise<JsonObject | undefined>;

  constructor(target: Target, parts: Parts, wait: () => Promise<JsonObject | undefined>) {
    this.target = target;
    this.parts = parts;
    this.wait = wait;
  }

  get zonename(): string {
    return this.target.zonename;
  }

  metadata(): MetadataMaps {
    return this.parts.files.metadata(this.target.directory, this.target.log);
  }

  load(need: MetadataNeed): VmData | Promise<VmData> {
    const { files, looked } = this.parts;
    looked();
    const loading = files.load(this.target.directory, need, this.target.log);
    return loading === null ? this : loading.then((loaded) => new LoadedVm(this, loaded));
  }

  use(): MetadataUse {
    const { files } = this.parts;
    return this.useOf(files.use(this.target.directory, this.target.log));
  }

  useOf({ bytes, keys }: GuestUse): MetadataUse {
    const { metadataBytes: bytesMax, metadataKeys: keysMax } = this.parts.limits;
    return { bytes, bytesMax, keys, keysMax };
  }

  tags(): ReadonlyMap<string, unknown> {
    return this.parts.files.tags(this.target.directory, this.target.log);
  }

  routes(): ReadonlyMap<string, unknown> {
    return this.parts.files.routes(this.target.directory, this.target.log);
  }

  vm(): JsonObject | undefined {
    return this.parts.table.vm(this.target.zonename);
  }

  loaded(): Promise<JsonObject | undefined> {
    const known = this.vm();
    return known === undefined ? this.wait() : Promise.resolve(known);
  }

  change(change: Change): Promise<ChangeResult> {
    const { table, writer } = this.parts;
    const { target } = this;
    if (UUID.test(target.zonename) || table.facts(target.zonename) !== undefined) {
      return writer.change(target, change);
    }
    // The VM tool locks by the VM's uuid, which such a zone's name does not tell.
    return this.wait().then((vm) => (vm === undefined ? NO_UUID : writer.change(target, change)));
  }
}

/** A VM's data with the metadata that was made ready for a request. */
class LoadedVm implements VmData {
  private readonly vmData: TrackedVm;
  private readonly loadedMetadata: LoadedMetadata;

  constructor(vmData: TrackedVm, loadedMetadata: LoadedMetadata) {
    this.vmData = vmData;
    this.loadedMetadata = loadedMetadata;
  }

  get zonename(): string {
    return this.vmData.zonename;
  }

  metadata(): MetadataMaps {
    return this.loadedMetadata.maps;
  }

  use(): MetadataUse {
    return this.vmData.useOf(this.loadedMetadata.use);
  }

  load(): VmData {
    return this;
  }

  tags(): ReadonlyMap<string, unknown> {
    return this.vmData.tags();
  }

  routes(): ReadonlyMap<string, unknown> {
    return this.vmData.routes();
  }

  vm(): JsonObject | undefined {
    return this.vmData.vm();
  }

  loaded(): Promise<JsonObject | undefined> {
    return this.vmData.loaded();
  }

  change(change: Change): Promise<ChangeResult> {
    return this.vmData.change(change);
  }
}
