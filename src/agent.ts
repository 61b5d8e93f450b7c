/*
 * The daemon, put together: which parts there are, in what order they come up and go down.
 *
 *   one agent a node -> VM data -> operators' door -> zones -> ready      start, a vasync pipeline
 *   zones -> VM data -> operators' door -> lock                           stop, the other way round
 *
 * It holds no rule of its own: what a request means is in metadata/, what a zone does in zones/, what a
 * link does in links/, what operators are shown in admin/.
 */
import { randomBytes } from 'node:crypto';
import * as vasync from 'vasync';
import { platformStamp, policyOf } from './admin/datasets-report';
import { setLevel } from './admin/log-level';
import type { AdminNode, AgentPhase } from './admin/node';
import { AdminServer } from './admin/server';
import type { Tail } from './admin/tail';
import { packageVersion } from './admin/version';
import { needingRestart, type Config } from './config';
import { LiveAudit } from './datasets/live-audit';
import { listUsage } from './datasets/usage';
import { NodeMetrics } from './metrics';
import type { Handle } from './transport/link';
import type { Logger } from './log';
import { answer, READ_ONLY, VM_NOT_FOUND, type AnswerOptions } from './metadata/handler';
import { claimNode } from './node-claim';
import { isWrite, type Request } from './protocol/request';
import { openPlatform, type Platform } from './platform/libzonecfg';
import type { HeldLock } from './platform/lock';
import { Paths } from './platform/paths';
import { ZoneRoots } from './platform/zone-root';
import { ConfigFiles } from './vm/config-files';
import { Store } from './vm/store';
import { FileWriter } from './writes/file-writer';
import { VmadmWriter } from './writes/vmadm-writer';
import { Writer } from './writes/writer';
import { ByteBudget } from './lib/byte-budget';
import { TaskQueue, tickIds } from './lib/scheduler';
import { helloText } from './metadata/hello';
import { Tokens } from './metadata/token';
import { nodeKey } from './platform/node-key';
import { Watches } from './transport/watches';
import { wireRegistry, wireStore } from './wiring';
import { ZoneEvents } from './zones/events';
import { Registry } from './zones/registry';
import { ZoneFactory } from './zone-factory';

/** What is left for the VM data where the links took all of the grace. */
const LAST_GRACE_MS = 500;

export interface AgentOptions {
  /** Absolute; `/` on SmartOS. */
  readonly root: string;
  readonly config: Config;
  readonly log: Logger;
  /** Live records, a stream of the logger. */
  readonly tail: Tail;
  /** Log records that were lost since the start. */
  readonly lostRecords: () => number;
  /** When the process began to work, on the clock of performance.now(). */
  readonly startedAt: number;
}

/** More would make nothing faster: one step is taken at a time. */
const LONG_VALUE_BYTES = 32 * 1024 * 1024;

/** One agent. Started once, reloaded as often as one likes, stopped once. */
export class Agent {
  readonly figures = new NodeMetrics();
  readonly paths: Paths;
  private readonly options: AgentOptions;
  private readonly log: Logger;
  private config: Config;
  /** Steps of long work for WATCH and GETALL: one in each iteration of the loop, whoever asks. */
  private readonly steps = new TaskQueue({ tasks: 1 });
  /** Long values that these steps have in memory, of all zones. */
  private readonly longValues = new ByteBudget(LONG_VALUE_BYTES);
  /** One object for all requests, changed in place when the configuration is. */
  private readonly answering: { -readonly [K in keyof AnswerOptions]: AnswerOptions[K] };
  private platform: Platform | null = null;
  private roots: ZoneRoots | null = null;
  private store: Store | null = null;
  private datasets: LiveAudit | null = null;
  private registry: Registry | null = null;
  private maker: ZoneFactory | null = null;
  private admin: AdminServer | null = null;
  private lock: HeldLock | null = null;
  private starting: vasync.PipelineStatus | null = null;
  private stopping: Promise<void> | null = null;

  constructor(options: AgentOptions) {
    this.options = options;
    this.config = options.config;
    this.log = options.log;
    this.paths = new Paths(options.root);
    this.answering = {
      operatorScriptWritable: options.config.operator_script_writable,
      emptyValuesStored: options.config.store_empty_values,
      commaDeletes: options.config.writer === 'file',
      tokens: this.tokensOf(randomBytes(32)),
      replyBytes: options.config.limits.unsent_bytes,
      hello: helloOf(options.config),
      onFault: (zonename, request, err) => this.noteFault(zonename, request.kind, err),
    };
  }

  /** Resolves when the sockets of all zones of the first picture listen. Rejects when it cannot go on. */
  start(): Promise<void> {
    type Step = (arg: null, done: (err?: Error | null) => void) => void;
    const step = (name: string, work: () => Promise<void>): Step => {
      const run: Step = (_, done) => {
        work().then(
          () => done(),
          (err: unknown) => done(err instanceof Error ? err : new Error(String(err))),
        );
      };
      return Object.defineProperty(run, 'name', { value: name });
    };
    const funcs = [
      step('one agent a node', () => this.claimNode()),
      step('VM data', () => this.startStore()),
      step("operators' door", () => this.openDoor()),
      step('zones', () => this.startZones()),
    ];
    return new Promise((resolve, reject) => {
      this.starting = vasync.pipeline({ funcs, arg: null }, (err) => {
        if (err) {
          reject(err);
          return;
        }
        if (this.stopping === null) {
          this.tellReady();
        }
        resolve();
      });
    });
  }

  /** New limits, level and rules take effect at once; what needs a restart is told. */
  reload(config: Config): void {
    const restart = needingRestart(this.config, config);
    if (restart.length > 0) {
      this.log.warn({ members: restart }, 'these members need a restart of the agent');
    }
    this.config = config;
    this.answering.operatorScriptWritable = config.operator_script_writable;
    this.answering.emptyValuesStored = config.store_empty_values;
    this.answering.replyBytes = config.limits.unsent_bytes;
    this.answering.hello = helloOf(config);
    setLevel(this.log, config.log_level);
    this.maker?.reload(config);
    this.datasets?.reload(policyOf(config));
  }

  /** Answers what was asked, within `graceMs`, and takes everything down. Idempotent; never rejects. */
  stop(graceMs: number): Promise<void> {
    this.stopping ??= this.takeDown(graceMs);
    return this.stopping;
  }

  /** Whether a write is under way that its guest has waited for in vain: it may never end. */
  get isWriting(): boolean {
    return (this.store?.status().writer.inProgress.length ?? 0) > 0;
  }

  private tokensOf(key: Buffer): Tokens {
    return new Tokens(
      key,
      () => this.steps.next(),
      (zonename, bytes, work) => this.longValues.run(zonename, bytes, work),
    );
  }

  private nodeKey(): Buffer {
    return nodeKey(this.paths.nodeKey, (err) => {
      this.log.warn({ err }, 'the key of this node cannot be used or kept: all tokens change');
    });
  }

  private async claimNode(): Promise<void> {
    this.lock = await claimNode(this.paths);
    this.answering.tokens = this.tokensOf(this.nodeKey());
  }

  private startStore(): Promise<void> {
    this.platform = openPlatform(this.options.root);
    const files = new ConfigFiles(undefined, tickIds());
    const store = new Store({
      vminfodUrl: this.config.vminfod ?? this.paths.vminfodUrl,
      files,
      writer: this.makeWriter(files),
      log: this.log,
    });
    const datasets = new LiveAudit({
      policy: policyOf(this.config),
      platform: platformStamp(),
      vms: store.table,
      listUsage: () => listUsage(this.paths.zfs),
      log: this.log.child({ component: 'datasets' }, true),
    });
    this.datasets = datasets;
    wireStore(store, {
      datasets,
      registry: () => this.registry,
      started: () => this.started,
    });
    store.start();
    this.store = store;
    return Promise.resolve();
  }

  private makeWriter(files: ConfigFiles): Writer {
    const { limits: configured, writer, restore_undone_writes: restoreUndone } = this.config;
    const limits = {
      metadataBytes: configured.metadata_bytes,
      metadataKeys: configured.metadata_keys,
      fileBytes: configured.metadata_file_bytes,
    };
    const lockPath = (uuid: string): string => this.paths.vmConfigLock(uuid);
    const backend =
      writer === 'vmadm'
        ? new VmadmWriter({ vmadm: this.paths.vmadm, limits, files })
        : new FileWriter({ lockPath, limits, files, restoreUndone });
    const rate = { perSecond: configured.writes_per_second, burst: configured.write_burst };
    return new Writer(backend, rate);
  }

  private openDoor(): Promise<void> {
    const { platform, store, datasets } = this;
    if (platform === null || store === null || datasets === null) {
      throw new Error('the door comes after the platform and the VM data');
    }
    this.admin = new AdminServer(this.seenByAdmin(platform, store, datasets));
    return this.admin.start();
  }

  private seenByAdmin(platform: Platform, store: Store, datasets: LiveAudit): AdminNode {
    const { log, paths, figures } = this;
    const { tail, lostRecords } = this.options;
    return {
      version: packageVersion(),
      startedAt: Date.now() - Math.round(performance.now() - this.options.startedAt),
      vminfodUrl: this.config.vminfod ?? paths.vminfodUrl,
      ...{ paths, platform, store, datasets, figures, log, tail, lostRecords },
      phase: () => this.phase(),
      config: () => this.config,
      registry: () => this.registry,
      journalOf: (zone) => this.maker?.journalOf(zone),
      starting: () => this.starting,
    };
  }

  private get started(): boolean {
    return this.starting !== null && this.starting.ndone === this.starting.operations.length;
  }

  private phase(): AgentPhase {
    if (this.stopping !== null) {
      return 'stopping';
    }
    return this.started ? 'serving' : 'starting';
  }

  private async startZones(): Promise<void> {
    const { platform, store, datasets, figures } = this;
    if (platform === null || store === null || datasets === null) {
      throw new Error('zones come after the platform and the VM data');
    }
    const watches = new Watches((zonename) => store.version(zonename));
    figures.watchesWaiting = () => watches.waiting;
    store.onChanged(({ zonename }) => watches.hint(zonename));
    const roots = new ZoneRoots(this.options.root);
    this.roots = roots;
    const maker = new ZoneFactory({
      paths: this.paths,
      platform,
      roots,
      store,
      log: this.log,
      figures,
      config: this.config,
      handle: this.handleOver(store, watches),
      watches,
    });
    this.maker = maker;
    const registry = new Registry({
      platform,
      events: new ZoneEvents(platform),
      log: this.log.child({ component: 'zones' }, true),
      reconcileMs: this.config.reconcile_seconds * 1000,
      makeZone: (facts) => maker.make(facts),
    });
    this.registry = registry;
    wireRegistry(registry, { store, datasets, figures, started: () => this.started });
    await registry.start();
    // Not before: nobody waits for an audit, and guests wait for their sockets.
    if (this.stopping === null) {
      datasets.start();
    }
  }

  private handleOver(store: Store, watches: Watches): Handle {
    const options: AnswerOptions = this.answering;
    return (origin, request) => {
      if (origin.readOnly && isWrite(request)) {
        return READ_ONLY;
      }
      const data = store.data(origin.zonename);
      const reply = data === undefined ? VM_NOT_FOUND : answer(data, request, options);
      if (reply instanceof Promise && isWrite(request)) {
        void reply.then(() => watches.hint(origin.zonename));
      }
      return reply;
    };
  }

  private noteFault(zonename: string, request: Request['kind'], err: unknown): void {
    this.figures.faults++;
    const zone = this.registry?.get(zonename);
    if (zone !== undefined) {
      this.maker?.journalOf(zone)?.fault(request, err);
    }
  }

  private tellReady(): void {
    const { registry } = this;
    let sockets = 0;
    let hvm = 0;
    for (const zone of registry?.all() ?? []) {
      if (zone.link.kind === 'port') {
        hvm++;
      } else if (zone.link.link.state === 'listening') {
        sockets++;
      }
    }
    const elapsed = Math.round(performance.now() - this.options.startedAt);
    this.log.info({ zones: registry?.size ?? 0, sockets, hvm, elapsed_ms: elapsed }, 'ready');
  }

  /** What guests asked and what writes still need share the same grace: a write that hangs uses it up. */
  private async takeDown(graceMs: number): Promise<void> {
    const deadline = performance.now() + graceMs;
    try {
      await this.registry?.stop(graceMs);
      await this.roots?.stop();
      this.datasets?.stop();
      await this.store?.stop(Math.max(LAST_GRACE_MS, deadline - performance.now()));
      await this.admin?.stop();
      this.lock?.release();
    } catch (err) {
      this.log.error({ err }, 'could not be taken down cleanly');
    }
  }
}

function helloOf({ limits }: Config): string {
  return helloText(packageVersion(), {
    lineBytes: limits.line_bytes,
    replyBytes: limits.unsent_bytes,
    metadataBytes: limits.metadata_bytes,
    keys: limits.metadata_keys,
  });
}
