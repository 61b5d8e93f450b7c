/*
 * The daemon, put together: which parts there are, in what order they start and stop, and who listens to whom. It holds
 * no rule of its own.
 *
 *   one agent a node -> zones -> ready               start, a vasync pipeline
 *   zones -> VM data -> admin server -> lock         stop
 *
 * Once the first zones have their sockets, vminfod is followed and the admin server started, in turns with the others.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import * as vasync from 'vasync';
import type { AdminNode, AgentPhase } from './admin/node';
import { AdminServer } from './admin/server';
import { addTail, setLevel, type Tail } from './admin/tail';
import { needingRestart, type Config } from './config';
import { listUsage, LiveAudit } from './datasets/live-audit';
import { platformStamp, policyOf } from './datasets/policy';
import { NodeMetrics } from './metrics';
import type { RequestLog } from './request-log';
import type { Handle } from './transport/link';
import type { Logger } from './log';
import { answer, helloText, READ_ONLY, VM_NOT_FOUND, type AnswerOptions } from './metadata/handler';
import { isWrite } from './protocol/request';
import { openLibraries } from './platform/ffi';
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
import { Tokens } from './metadata/watch';
import { nodeKey } from './platform/node-key';
import { checkSocketPath } from './transport/socket-file';
import { Watches } from './transport/watches';
import { phaseOf, ZoneEvents } from './zones/events';
import { Registry } from './zones/registry';
import type { Zone } from './zones/zone';
import { ZoneFactory } from './zone-factory';

/** The grace of the VM data where the zones have used up all of theirs. */
const LAST_GRACE_MS = 500;
/** The listing of the zones waits for other programs of the node: operators need not wait with it. */
const LISTING_MS = 1000;
/**
 * What answers with all keys of a zone (WATCH, GETALL) hold while they are made, of all zones; one step of them is
 * executed at a time, so that more would not be faster. Those that need less than a mebibyte do not wait for the others.
 */
const ANSWER_BYTES = 32 * 1024 * 1024;
const SMALL_ANSWER_BYTES = 1024 * 1024;

/** One agent, as operators see it too. Started once, reloaded any number of times, stopped once. */
export class Agent implements AdminNode {
  readonly version = packageVersion();
  readonly startedAt = Date.now();
  private readonly began = performance.now();
  readonly metrics = new NodeMetrics();
  readonly tail: Tail;
  readonly paths: Paths;
  readonly platform: Platform;
  readonly vminfodUrl: string;
  readonly store: Store;
  readonly datasets: LiveAudit;
  /** One object for all requests, changed in place when the configuration is. */
  private readonly answering: { -readonly [K in keyof AnswerOptions]: AnswerOptions[K] };
  private readonly watches: Watches;
  private readonly roots: ZoneRoots;
  private readonly factory: ZoneFactory;
  private readonly events: ZoneEvents;
  readonly zones: Registry;
  private admin: AdminServer | null = null;
  private lock: HeldLock | null = null;
  private pipeline: vasync.PipelineStatus | null = null;
  private stopping: Promise<void> | null = null;

  /**
   * @param root absolute; `/` on SmartOS
   * @param log one that has no child yet
   * @param lostRecords log records that were lost since the start
   * @throws where the addon cannot be loaded
   */
  constructor(
    root: string,
    private current: Config,
    readonly log: Logger,
    readonly lostRecords: () => number,
  ) {
    const config = current;
    this.tail = addTail(log);
    const paths = new Paths(root);
    this.paths = paths;
    this.platform = openPlatform(root);
    const largeAnswers = new ByteBudget(ANSWER_BYTES);
    const smallAnswers = new ByteBudget(ANSWER_BYTES / 2);
    this.answering = {
      ...answersOf(this.version, config),
      commaDeletes: config.writer === 'file',
      // With the node's key once that is read, before any request.
      tokens: tokensOf(Buffer.alloc(0)),
      withRoom: (zonename, bytes, work) => {
        const budget = bytes > SMALL_ANSWER_BYTES ? largeAnswers : smallAnswers;
        return budget.run(zonename, bytes, work);
      },
      onFault: (zonename, request, err) => {
        this.metrics.faults++;
        const zone = this.zones.get(zonename);
        if (zone !== undefined) {
          this.requestLogOf(zone)?.fault(request.kind, err);
        }
      },
    };
    const files = new ConfigFiles(tickIds());
    const writer = writerOf(config, paths, files);
    this.vminfodUrl = config.vminfod ?? paths.vminfodUrl;
    this.store = new Store({ vminfodUrl: this.vminfodUrl, files, writer, log });
    this.datasets = new LiveAudit({
      policy: policyOf(config.datasets),
      platform: platformStamp(),
      vms: this.store.table,
      listUsage: () => listUsage(paths.zfs),
      log: log.child({ component: 'datasets' }, true),
    });
    this.watches = new Watches((zonename) => this.store.version(zonename));
    this.metrics.watchesWaiting = () => this.watches.waiting;
    this.roots = new ZoneRoots(root);
    const { platform, roots, store, metrics, watches, handle } = this;
    const shared = { paths, platform, roots, store, log, metrics, config, handle, watches };
    this.factory = new ZoneFactory(shared);
    this.events = new ZoneEvents(platform);
    this.zones = new Registry({
      platform,
      events: this.events,
      log: log.child({ component: 'zones' }, true),
      reconcileMs: config.reconcile_seconds * 1000,
      makeZone: (facts) => this.factory.make(facts),
    });
    this.listen();
  }

  config(): Config {
    return this.current;
  }

  requestLogOf(zone: Zone): RequestLog | undefined {
    return this.factory.requestLogOf(zone);
  }

  starting(): vasync.PipelineStatus | null {
    return this.pipeline;
  }

  phase(): AgentPhase {
    if (this.stopping !== null) {
      return 'stopping';
    }
    return this.started ? 'serving' : 'starting';
  }

  /** Resolves when the sockets of all zones found at the start listen. Rejects when it cannot go on. */
  async start(): Promise<void> {
    const steps = {
      'one agent a node': () => this.lockNode(),
      zones: () => this.startZones(),
    };
    const funcs = Object.entries(steps).map(([value, step]) => {
      const run: vasync.Step = (_, done) => void step().then(() => done(), done);
      return Object.defineProperty(run, 'name', { value });
    });
    await new Promise<void>((resolve, reject) => {
      this.pipeline = vasync.pipeline({ funcs }, (err) => (err ? reject(err) : resolve()));
    });
    if (this.stopping === null) {
      this.logReady();
    }
  }

  /** New limits, level and rules take effect at once; what needs a restart is logged. */
  reload(config: Config): void {
    const restart = needingRestart(this.current, config);
    if (restart.length > 0) {
      this.log.warn({ members: restart }, 'these members need a restart of the agent');
    }
    this.current = config;
    Object.assign(this.answering, answersOf(this.version, config));
    setLevel(this.log, config.log_level);
    this.factory.reload(config);
    this.datasets.reload(policyOf(config.datasets));
  }

  /** Answers pending requests, within `graceMs`, and stops all parts. Idempotent; never rejects. */
  stop(graceMs: number): Promise<void> {
    this.stopping ??= this.stopAll(graceMs);
    return this.stopping;
  }

  private get started(): boolean {
    return this.pipeline !== null && this.pipeline.ndone === this.pipeline.operations.length;
  }

  private async lockNode(): Promise<void> {
    // A root whose path is too long is told as that: the zones fail earlier, and say less.
    checkSocketPath(this.paths.adminSocket);
    this.lock = await lockNode(this.paths);
    const key = await nodeKey(this.paths.nodeKey, (err) => {
      this.log.warn({ err }, 'the key of this node cannot be used or kept: all tokens change');
    });
    this.answering.tokens = tokensOf(key);
  }

  private async startZones(): Promise<void> {
    const listed = once(this.events, 'ready').then(afterPolling);
    // From then on they take turns with the sockets of the other zones. Earlier the first guests would wait for them.
    const others = Promise.race([listed, delay(LISTING_MS)]).then(async () => {
      if (this.stopping === null) {
        try {
          // As later there may be no descriptor for them. What needs them is tried again, and guests are served.
          openLibraries();
        } catch (err) {
          this.log.error({ err }, 'cannot open the libraries of the platform');
        }
        this.store.start();
        this.admin = new AdminServer(this);
        await this.admin.start();
      }
    });
    await Promise.all([this.zones.start(), others]);
    // Last: nobody waits for them, and guests wait for their sockets.
    void this.zones.safetyNet.checkMounts();
    if (this.stopping === null) {
      this.datasets.start();
    }
  }

  private vmChanged({ zonename, previous, next }: VmChange): void {
    const zone = this.zones.get(zonename);
    const [restarts, restartsNow] = [previous?.initRestarts, next?.initRestarts];
    if (restarts !== undefined && restartsNow !== undefined && restarts !== restartsNow) {
      // No zone event reports that the guest's init was started again.
      zone?.guestRebooted();
    }
    // What vminfod says of a zone's state is a hint only: libzonecfg is asked. Until all zones are found a
    // difference means nothing.
    if (this.started && differs(zone, next)) {
      void this.zones.hint(zonename);
    }
    if (next === undefined) {
      this.datasets.remove(zonename);
    } else {
      this.datasets.touch(zonename);
    }
    this.watches.hint(zonename);
  }

  private listen(): void {
    const { zones, store, datasets, metrics } = this;
    store.onChanged((change) => this.vmChanged(change));
    zones.on('added', (zone) => {
      datasets.touch(zone.zonename);
      // "ready" counts the sockets found at the start: thousands of records would slow it.
      if (this.started || zone.link.kind === 'port') {
        const { state, zonepath } = zone.facts;
        zone.log.info({ state, zonepath }, 'zone arrived');
      }
    });
    zones.on('moved', (zone) => datasets.touch(zone.zonename));
    zones.on('removed', (zone) => {
      zone.log.info({}, 'zone left');
      // Another zone of the same name may have been added since.
      if (zones.get(zone.zonename) === undefined) {
        store.untrack(zone.zonename);
      }
    });
    zones.on('event', (event) => metrics.zoneEvent(event.when));
    zones.on('repaired', (repair) => metrics.repaired(repair));
  }

  private readonly handle: Handle = (origin, request, isWanted) => {
    if (origin.readOnly && isWrite(request)) {
      return READ_ONLY;
    }
    const data = this.store.data(origin.zonename);
    const reply =
      data === undefined ? VM_NOT_FOUND : answer(data, request, this.answering, isWanted);
    if (reply instanceof Promise && isWrite(request)) {
      void reply.then(() => this.watches.hint(origin.zonename));
    }
    return reply;
  };

  private logReady(): void {
    const links = [...this.zones.all()].map(({ link }) => link);
    const hvm = links.filter(({ kind }) => kind === 'port').length;
    const sockets = links.filter(({ link }) => link.state === 'listening').length;
    const elapsed = Math.round(performance.now() - this.began);
    this.log.info({ zones: links.length, sockets, hvm, elapsed_ms: elapsed }, 'ready');
  }

  /** Pending requests and writes share the grace: a write that hangs uses it up. */
  private async stopAll(graceMs: number): Promise<void> {
    const deadline = performance.now() + graceMs;
    try {
      await this.zones.stop(graceMs);
      this.roots.stop();
      this.datasets.stop();
      await this.store.stop(Math.max(LAST_GRACE_MS, deadline - performance.now()));
      await this.admin?.stop();
      this.lock?.release();
    } catch (err) {
      this.log.error({ err }, 'could not stop cleanly');
    }
  }
}

/** The rules of answers that can change while the agent runs. */
function answersOf(version: string, config: Config) {
  const { operator_script_writable, store_empty_values, limits } = config;
  return {
    operatorScriptWritable: operator_script_writable,
    emptyValuesStored: store_empty_values,
    replyBytes: limits.unsent_bytes,
    hello: helloText(version, {
      lineBytes: limits.line_bytes,
      replyBytes: limits.unsent_bytes,
      metadataBytes: limits.metadata_bytes,
      keys: limits.metadata_keys,
    }),
  };
}

function tokensOf(key: Buffer): Tokens {
  return new Tokens(key, () => longWork.next());
}

function writerOf(config: Config, paths: Paths, files: ConfigFiles): Writer {
  const limits = {
    metadataBytes: config.limits.metadata_bytes,
    metadataKeys: config.limits.metadata_keys,
    fileBytes: config.limits.metadata_file_bytes,
  };
  const lockPath = (uuid: string): string => paths.vmConfigLock(uuid);
  const backend =
    config.writer === 'vmadm'
      ? new VmadmWriter(paths.vmadm, limits, files)
      : new FileWriter({ lockPath, limits, files, restoreUndone: config.restore_undone_writes });
  const { writes_per_second: perSecond, write_burst: burst } = config.limits;
  return new Writer(backend, { perSecond, burst });
}

/** Whether vminfod and we know different states of a zone; halted where vminfod says nothing. */
function differs(zone: Zone | undefined, next: VmChange['next']): boolean {
  return zone?.state !== (next && phaseOf(next.zoneState ?? ''));
}
