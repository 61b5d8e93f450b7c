/*
 * The daemon, put together: which parts there are, in what order they start and stop, and who listens to whom.
 *
 *   one agent a node -> VM data -> zones -> ready         start, a vasync pipeline
 *   zones -> VM data -> admin server -> lock              stop, in reverse
 *
 * Once the first zones have their sockets, vminfod is followed and the admin server started, in turns with the others.
 *
 *   VM data  changed           datasets: judge it again, or remove it
 *                              zones: ask libzonecfg, where vminfod and we differ; its guest rebooted
 *   zones    added, changed    datasets: judge it again; the log
 *            removed           VM data: remove it
 *            event, repaired   metrics
 *
 * It holds no rule of its own: what a request means is in metadata/, what a zone does in zones/, what a
 * connection does in transport/, what operators see in admin/.
 */
import assert from 'node:assert';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import * as vasync from 'vasync';
import type { AgentPhase } from './admin/node';
import { AdminServer } from './admin/server';
import { setLevel, type Tail } from './admin/tail';
import { needingRestart, type Config } from './config';
import { listUsage, LiveAudit } from './datasets/live-audit';
import { platformStamp, policyOf } from './datasets/policy';
import { NodeMetrics } from './metrics';
import type { Handle } from './transport/link';
import type { Logger } from './log';
import { answer, READ_ONLY, VM_NOT_FOUND, type AnswerOptions } from './metadata/handler';
import { isWrite, type Request } from './protocol/request';
import { openPlatform, type Platform } from './platform/libzonecfg';
import { lockNode, type HeldLock } from './platform/lock';
import { longWork } from './platform/metadata-text';
import { Paths } from './platform/paths';
import { ZoneRoots } from './platform/zone-root';
import { ConfigFiles } from './vm/config-files';
import { Store } from './vm/store';
import { FileWriter } from './writes/file-writer';
import { VmadmWriter } from './writes/vmadm-writer';
import { Writer } from './writes/writer';
import { packageVersion } from './lib/version';
import type { VmChange } from './vm/vm-cache';
import { ByteBudget } from './lib/byte-budget';
import { afterPolling, tickIds } from './lib/scheduler';
import { helloText } from './metadata/hello';
import { Tokens } from './metadata/token';
import { nodeKey } from './platform/node-key';
import { checkSocketPath } from './transport/socket-file';
import { Watches } from './transport/watches';
import { ZoneEvents } from './zones/events';
import { Registry } from './zones/registry';
import { phaseOfState, type Zone } from './zones/zone';
import { ZoneFactory } from './zone-factory';

/** The grace of the VM data where the zones have used up all of theirs. */
const LAST_GRACE_MS = 500;
/** The listing of the zones waits for other programs of the node: operators need not wait with it. */
const LISTING_MS = 200;

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

/**
 * What answers with all keys of a zone (WATCH, GETALL) hold while they are made, of all zones; one step of them is
 * executed at a time, so that more would not be faster. Those that need less than a mebibyte do not wait for the others.
 */
const ANSWER_BYTES = 32 * 1024 * 1024;
const SMALL_ANSWER_BYTES = 1024 * 1024;

/** What is made before the admin server starts, and lives as long as the agent. */
interface Parts {
  readonly platform: Platform;
  readonly store: Store;
  readonly datasets: LiveAudit;
  readonly roots: ZoneRoots;
  readonly factory: ZoneFactory;
}

/** One agent. Started once, reloaded any number of times, stopped once. */
export class Agent {
  readonly metrics = new NodeMetrics();
  readonly paths: Paths;
  private readonly log: Logger;
  private config: Config;
  private readonly largeAnswers = new ByteBudget(ANSWER_BYTES);
  private readonly smallAnswers = new ByteBudget(ANSWER_BYTES / 2);
  /** One object for all requests, changed in place when the configuration is. */
  private readonly answering: { -readonly [K in keyof AnswerOptions]: AnswerOptions[K] };
  private parts: Parts | null = null;
  private registry: Registry | null = null;
  private admin: AdminServer | null = null;
  private lock: HeldLock | null = null;
  private starting: vasync.PipelineStatus | null = null;
  private stopping: Promise<void> | null = null;

  constructor(private readonly options: AgentOptions) {
    this.config = options.config;
    this.log = options.log;
    this.paths = new Paths(options.root);
    this.answering = {
      operatorScriptWritable: options.config.operator_script_writable,
      emptyValuesStored: options.config.store_empty_values,
      commaDeletes: options.config.writer === 'file',
      tokens: this.tokensOf(randomBytes(32)),
      withRoom: (zonename, bytes, work) => {
        const budget = bytes > SMALL_ANSWER_BYTES ? this.largeAnswers : this.smallAnswers;
        return budget.run(zonename, bytes, work);
      },
      replyBytes: options.config.limits.unsent_bytes,
      hello: helloOf(options.config),
      onFault: (zonename, request, err) => this.countFault(zonename, request.kind, err),
    };
  }

  /** Resolves when the sockets of all zones found at the start listen. Rejects when it cannot go on. */
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
      step('one agent a node', () => this.lockNode()),
      step('VM data', () => this.startStore()),
      step('zones', () => this.startZones()),
    ];
    return new Promise((resolve, reject) => {
      this.starting = vasync.pipeline({ funcs, arg: null }, (err) => {
        if (err) {
          reject(err);
          return;
        }
        if (this.stopping === null) {
          this.logReady();
        }
        resolve();
      });
    });
  }

  /** New limits, level and rules take effect at once; what needs a restart is logged. */
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
    this.parts?.factory.reload(config);
    this.parts?.datasets.reload(policyOf(config.datasets));
  }

  /** Answers pending requests, within `graceMs`, and stops all parts. Idempotent; never rejects. */
  stop(graceMs: number): Promise<void> {
    this.stopping ??= this.stopAll(graceMs);
    return this.stopping;
  }

  private tokensOf(key: Buffer): Tokens {
    return new Tokens(key, () => longWork.next());
  }

  private async lockNode(): Promise<void> {
    // A root whose path is too long is told as that: the zones fail earlier, and say less.
    checkSocketPath(this.paths.adminSocket);
    this.lock = await lockNode(this.paths);
    const key = await nodeKey(this.paths.nodeKey, (err) => {
      this.log.warn({ err }, 'the key of this node cannot be used or kept: all tokens change');
    });
    this.answering.tokens = this.tokensOf(key);
  }

  private startStore(): Promise<void> {
    const { config, log, metrics, paths } = this;
    const platform = openPlatform(paths.root);
    const files = new ConfigFiles(undefined, tickIds());
    const writer = this.makeWriter(files);
    const store = new Store({ vminfodUrl: this.vminfodUrl, files, writer, log });
    const datasets = new LiveAudit({
      policy: policyOf(config.datasets),
      platform: platformStamp(),
      vms: store.table,
      listUsage: () => listUsage(paths.zfs),
      log: log.child({ component: 'datasets' }, true),
    });
    const watches = new Watches((zonename) => store.version(zonename));
    metrics.watchesWaiting = () => watches.waiting;
    const roots = new ZoneRoots(paths.root);
    const handle = this.handlerFor(store, watches);
    const factory = new ZoneFactory({
      ...{ paths, platform, roots, store, log, metrics, config, handle, watches },
    });
    this.parts = { platform, store, datasets, roots, factory };
    store.onChanged((change) => {
      this.vmChanged(change, datasets);
      watches.hint(change.zonename);
    });
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

  private startAdmin(): Promise<void> {
    const { log, paths, metrics } = this;
    const { tail, lostRecords, startedAt } = this.options;
    const { platform, store, datasets, factory } = this.made;
    this.admin = new AdminServer({
      version: packageVersion(),
      startedAt: Date.now() - Math.round(performance.now() - startedAt),
      vminfodUrl: this.vminfodUrl,
      ...{ paths, platform, store, datasets, metrics, log, tail, lostRecords },
      phase: () => this.phase(),
      config: () => this.config,
      registry: () => this.registry,
      requestLogOf: (zone) => factory.requestLogOf(zone),
      starting: () => this.starting,
    });
    return this.admin.start();
  }

  private get made(): Parts {
    assert(this.parts !== null, 'the VM data comes before the zones');
    return this.parts;
  }

  /** Where vminfod answered when the agent started: another needs a restart. */
  private get vminfodUrl(): string {
    return this.options.config.vminfod ?? this.paths.vminfodUrl;
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
    const { platform, store, datasets, factory } = this.made;
    const events = new ZoneEvents(platform);
    const registry = new Registry({
      platform,
      events,
      log: this.log.child({ component: 'zones' }, true),
      reconcileMs: this.config.reconcile_seconds * 1000,
      makeZone: (facts) => factory.make(facts),
    });
    this.registry = registry;
    this.listenTo(registry, store, datasets);
    const firstBound = Promise.race([once(events, 'ready').then(afterPolling), delay(LISTING_MS)]);
    await Promise.all([registry.start(), firstBound.then(() => this.startBehind(store))]);
    factory.startChecks();
    // Last: nobody waits for an audit, and guests wait for their sockets.
    if (this.stopping === null) {
      datasets.start();
    }
  }

  /** What would keep the first guests waiting: from here on it takes turns with the sockets of the others. */
  private async startBehind(store: Store): Promise<void> {
    if (this.stopping === null) {
      store.start();
      await this.startAdmin();
    }
  }

  private vmChanged(change: VmChange, datasets: LiveAudit): void {
    const { zonename, previous, next } = change;
    const zone = this.registry?.get(zonename);
    // No zone event reports that the guest's init was started again.
    if (
      previous?.initRestarts !== undefined &&
      next?.initRestarts !== undefined &&
      previous.initRestarts !== next.initRestarts
    ) {
      zone?.guestRebooted();
    }
    // What vminfod says of a zone's state is a hint only: libzonecfg is asked. Until all zones are found a
    // difference means nothing.
    if (this.started && differs(zone, next)) {
      void this.registry?.hint(zonename);
    }
    if (next === undefined) {
      datasets.remove(zonename);
    } else {
      datasets.touch(zonename);
    }
  }

  private listenTo(registry: Registry, store: Store, datasets: LiveAudit): void {
    registry.on('added', (zone) => {
      datasets.touch(zone.zonename);
      // "ready" counts the sockets found at the start: thousands of records would slow it.
      if (this.started || zone.link.kind === 'port') {
        const { state, zonepath } = zone.facts;
        zone.log.info({ state, zonepath }, 'zone arrived');
      }
    });
    registry.on('moved', (zone) => datasets.touch(zone.zonename));
    registry.on('removed', (zone) => {
      zone.log.info({}, 'zone left');
      // Another zone of the same name may have been added since.
      if (registry.get(zone.zonename) === undefined) {
        store.untrack(zone.zonename);
      }
    });
    registry.on('event', (event) => this.metrics.zoneEvent(event.when));
    registry.on('repaired', (repair) => this.metrics.repaired(repair));
  }

  private handlerFor(store: Store, watches: Watches): Handle {
    const options: AnswerOptions = this.answering;
    return (origin, request, isWanted) => {
      if (origin.readOnly && isWrite(request)) {
        return READ_ONLY;
      }
      const data = store.data(origin.zonename);
      const reply = data === undefined ? VM_NOT_FOUND : answer(data, request, options, isWanted);
      if (reply instanceof Promise && isWrite(request)) {
        void reply.then(() => watches.hint(origin.zonename));
      }
      return reply;
    };
  }

  private countFault(zonename: string, request: Request['kind'], err: unknown): void {
    this.metrics.faults++;
    const zone = this.registry?.get(zonename);
    if (zone !== undefined) {
      this.parts?.factory.requestLogOf(zone)?.fault(request, err);
    }
  }

  private logReady(): void {
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

  /** Pending requests and writes share the grace: a write that hangs uses it up. */
  private async stopAll(graceMs: number): Promise<void> {
    const deadline = performance.now() + graceMs;
    try {
      await this.registry?.stop(graceMs);
      await this.parts?.roots.stop();
      this.parts?.datasets.stop();
      await this.parts?.store.stop(Math.max(LAST_GRACE_MS, deadline - performance.now()));
      await this.admin?.stop();
      this.lock?.release();
    } catch (err) {
      this.log.error({ err }, 'could not stop cleanly');
    }
  }
}

/** Whether vminfod and we know different states of a zone; halted where vminfod says nothing. */
function differs(zone: Zone | undefined, next: VmChange['next']): boolean {
  if (zone === undefined || next === undefined) {
    return (zone === undefined) !== (next === undefined);
  }
  const { zoneState } = next;
  const isUp = zoneState === 'running' || zoneState === 'ready';
  return zone.state !== (isUp ? phaseOfState(zoneState) : 'halted');
}

function helloOf({ limits }: Config): string {
  return helloText(packageVersion(), {
    lineBytes: limits.line_bytes,
    replyBytes: limits.unsent_bytes,
    metadataBytes: limits.metadata_bytes,
    keys: limits.metadata_keys,
  });
}
