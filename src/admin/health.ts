/*
 * The health of the node and of its zones: the one model that status, /healthz, zones, kang, the metrics and the
 * doctor show.
 *
 *   node reasons ----------------------+
 *   zone reasons --> zone's health ----+--> node's health: ok | degraded | failed
 *
 * `failed` says that something a guest or an operator needs does not work; `degraded`, that it works but not as
 * it should. A zone that failed degrades the node: the other zones are served. It is evaluated when somebody
 * asks, in time slices, from the agent's own state and the files in `<zonepath>/config`; it names no path below a
 * zone's root and changes nothing. Counts since the start and recent warnings of a zone's log are not health.
 */
import { readdirSync } from 'node:fs';
import type { SerialLink } from '../transport/serial-link';
import type { WriteFailure, WriterStatus } from '../vm/store';
import type { Zone } from '../zones/zone';
import { countEach, counted, inBytes, inWords } from './format';
import { FreeSpace } from './free-space';
import { ConfigChecks, type ConfigCheck } from './health-files';
import { readStates, inSlices, type AdminNode, type AgentPhase, type PlatformStates } from './node';
import { healthOf, pingVminfod, whyBehind, type VminfodHealth } from './vminfod-health';
import { memoryCeiling, Watchdog, type SelfHealth } from './watchdog';

export type HealthState = 'ok' | 'degraded' | 'failed';
type Unhealthy = Exclude<HealthState, 'ok'>;

/** Every reason that concerns the node as a whole, with the doctor's step that shows it. Names are published: keep them. */
export const NODE_REASONS = {
  starting: { state: 'failed', step: 'agent' },
  stopping: { state: 'failed', step: 'agent' },
  'event-loop-wedged': { state: 'failed', step: 'event loop' },
  'memory-over-ceiling': { state: 'degraded', step: 'memory' },
  'vminfod-down': { state: 'degraded', step: 'vminfod' },
  'vminfod-wedged': { state: 'degraded', step: 'vminfod' },
  'log-records-lost': { state: 'degraded', step: 'log' },
} as const satisfies Record<string, { state: Unhealthy; step: string }>;

/** Every reason that concerns one zone. Names are label values of a metric: keep them. */
export const ZONE_REASONS = {
  'socket-not-listening': { state: 'failed', step: 'listener' },
  'not-mounted': { state: 'failed', step: 'mount' },
  'mount-replaced': { state: 'failed', step: 'mount' },
  'mount-not-known': { state: 'degraded', step: 'mount' },
  'unknown-brand': { state: 'degraded', step: 'zone' },
  'file-system-not-answering': { state: 'degraded', step: 'file system' },
  'port-not-reachable': { state: 'failed', step: 'link' },
  'port-held': { state: 'failed', step: 'link' },
  'vm-data-missing': { state: 'failed', step: 'VM data' },
  'vminfod-behind': { state: 'degraded', step: 'VM data' },
  'metadata-damaged': { state: 'failed', step: 'metadata.json' },
  'tags-damaged': { state: 'failed', step: 'tags.json' },
  'routes-damaged': { state: 'failed', step: 'routes.json' },
  'write-waiting': { state: 'degraded', step: 'config lock' },
  'disk-full': { state: 'failed', step: 'disk' },
  'writes-failing': { state: 'failed', step: 'writes' },
  'metadata-full': { state: 'degraded', step: 'writes' },
} as const satisfies Record<string, { state: Unhealthy; step: string }>;

export type NodeReason = keyof typeof NODE_REASONS;
export type ZoneReason = keyof typeof ZONE_REASONS;

export interface Problem {
  readonly reason: NodeReason | ZoneReason;
  readonly state: Unhealthy;
  /** Null: the whole node. */
  readonly zonename: string | null;
  /** One sentence, without a metadata value. */
  readonly text: string;
  /** What to do, on one line. */
  readonly remedy: string;
}

export interface HealthSnapshot {
  readonly state: HealthState;
  /** One line: `ok`, or the state and what is wrong. */
  readonly summary: string;
  readonly node: readonly Problem[];
  /** Zones that are not healthy. */
  readonly zones: ReadonlyMap<string, readonly Problem[]>;
  /** Zones by reason; a zone counts under each of its reasons. */
  readonly zonesByReason: ReadonlyMap<string, number>;
  readonly vminfod: VminfodHealth;
  readonly states: PlatformStates;
  readonly self: SelfHealth;
}

/** A write that waits this long for its lock is reported. */
const LONG_WAIT_MS = 5000;
/** A socket that was removed is made again within this. */
const REBIND_MS = 2000;
/** A booting hypervisor has its port by then. */
const BOOT_MS = 15_000;
/** vminfod reports a new VM within this. */
const LOAD_MS = 10_000;
/** vminfod shows a zone's new state, or that it booted anew, within this. */
const STATE_SHOWN_MS = 5000;
/** One evaluation serves everybody who asks within this. */
const SHARED_MS = 1000;
/** A port that is held by another program ends a connection sooner than this. */
const HELD_MS = 1000;
/** vminfod is asked about so many suspicious VMs in one evaluation, one after the other. */
const MOST_QUESTIONS = 8;

/** What the zones of one evaluation share. */
interface Shared {
  readonly vminfod: VminfodHealth;
  readonly states: PlatformStates;
  /** That the platform has files of; null: not known. */
  readonly brands: readonly string[] | null;
  readonly writes: ReadonlyMap<string, WriterStatus['inProgress'][number]>;
  readonly failures: ReadonlyMap<string, WriteFailure>;
  readonly mayAskVminfod: () => boolean;
}

/** Evaluates the health of one agent. From `start` to `stop` it watches the process and the room on zones' disks. */
export class HealthMonitor {
  readonly freeSpace: FreeSpace;
  private readonly watchdog: Watchdog;
  private readonly configs = new WeakMap<Zone, ConfigChecks>();
  /** When vminfod reported the last change of a VM since the start, ms since 1970. */
  readonly changed = new Map<string, number>();
  private readonly unsubscribe: () => void;
  private last: { at: number; phase: AgentPhase; snapshot: Promise<HealthSnapshot> } | null = null;

  constructor(private readonly node: AdminNode) {
    const ceiling = (): number => memoryCeiling(node.zones.size, node.config().limits);
    this.watchdog = new Watchdog(node.log, ceiling, () => node.lostRecords());
    this.freeSpace = new FreeSpace({
      zones: () => node.zones.all(),
      directoryOf: (zone) => this.configDirectory(zone),
      metadataBytes: () => node.config().limits.metadata_bytes,
    });
    this.unsubscribe = node.store.onChanged(({ zonename, next }) => {
      if (next === undefined) {
        this.changed.delete(zonename);
      } else {
        this.changed.set(zonename, Date.now());
      }
    });
  }

  start(): void {
    this.watchdog.start();
    this.freeSpace.start();
  }

  /** Idempotent. */
  stop(): void {
    this.watchdog.stop();
    this.freeSpace.stop();
    this.unsubscribe();
    this.changed.clear();
  }

  /** The health of everything. Never rejects; takes as long as vminfod's answer, a second at most. */
  snapshot(): Promise<HealthSnapshot> {
    const at = performance.now();
    const phase = this.node.phase();
    if (this.last?.phase !== phase || at - this.last.at > SHARED_MS) {
      this.last = { at, phase, snapshot: this.evaluate() };
    }
    return this.last.snapshot;
  }

  private async evaluate(): Promise<HealthSnapshot> {
    const { node } = this;
    const answer = await pingVminfod(node.vminfodUrl);
    const vminfod = healthOf(node.store.status(), answer, Date.now());
    const zones = new Map<string, readonly Problem[]>();
    const states = await readStates(node.platform).catch((err: unknown): PlatformStates => {
      // The reconcile reports it; until then each zone has the state that its events gave.
      node.log.debug({ err }, 'could not ask for the states of zones');
      return new Map();
    });
    if (node.phase() === 'serving') {
      const { inProgress, failing } = node.store.status().writer;
      let questions = MOST_QUESTIONS;
      const shared = {
        vminfod,
        states,
        brands: brandsIn(node.paths.host('/usr/lib/brand')),
        writes: new Map(inProgress.map((write) => [write.zonename, write])),
        failures: new Map(failing.map((failure) => [failure.zonename, failure])),
        mayAskVminfod: () => questions-- > 0,
      };
      for await (const zone of inSlices([...node.zones.all()])) {
        const problems = await this.problemsOf(zone, shared);
        if (problems.length > 0) {
          zones.set(zone.zonename, problems);
        }
      }
    }
    const zonesByReason = countEach([...zones.values()].flat().map(({ reason }) => reason));
    const self = this.watchdog.state();
    const problems = this.nodeProblems(vminfod, self);
    const nodeState = stateOf(problems);
    const state = nodeState === 'ok' && zones.size > 0 ? 'degraded' : nodeState;
    const parts = problems.map(({ text }) => text);
    if (zones.size > 0) {
      const reasons = [...zonesByReason].map(([reason, count]) => `${reason} ${count}`).join(', ');
      parts.push(`${counted(zones.size, 'zone')} not healthy (${reasons})`);
    }
    const summary = parts.length === 0 ? state : `${state}: ${parts.join('; ')}`;
    return { state, summary, node: problems, zones, zonesByReason, vminfod, states, self };
  }

  private nodeProblems(vminfod: VminfodHealth, self: SelfHealth): Problem[] {
    const { node } = this;
    const problems: Problem[] = [];
    const add = (reason: NodeReason, text: string, remedy: string): void => {
      problems.push({ reason, state: NODE_REASONS[reason].state, zonename: null, text, remedy });
    };
    switch (node.phase()) {
      case 'starting': {
        const { pending, waiting } = node.zones.bindingStatus;
        const left = pending + waiting;
        const rest = left === 0 ? '' : `: ${counted(left, 'zone socket')} still to be bound`;
        add('starting', `the agent is starting${rest}`, 'mdatactl status');
        break;
      }
      case 'stopping':
        add('stopping', 'the agent is stopping', 'svcs -xv mdatad');
        break;
      case 'serving':
        self.alarms.forEach(({ reason, text, remedy }) => add(reason, text, remedy));
        if (vminfod.reason !== null) {
          add(vminfod.reason, `vminfod ${vminfod.summary}`, vminfod.remedy);
        }
    }
    return problems;
  }

  private async problemsOf(zone: Zone, shared: Shared): Promise<readonly Problem[]> {
    const { zonename } = zone;
    const problems: Problem[] = [];
    const add: Add = (reason, text, remedy = `mdatactl doctor ${zonename}`) => {
      problems.push({ reason, state: ZONE_REASONS[reason].state, zonename, text, remedy });
    };
    const configs =
      this.configs.get(zone) ?? new ConfigChecks(this.node.vminfodUrl, this.node.startedAt);
    this.configs.set(zone, configs);
    const config = await configs.check(this.configDirectory(zone));
    if (!zone.answers) {
      add('file-system-not-answering', 'the file system below its root is not answering');
    } else if (this.freeSpace.last(zonename) === 'not answering') {
      add('file-system-not-answering', 'the file system of its config files is not answering');
    }
    const { brand } = zone.facts;
    if (shared.brands?.includes(brand) === false) {
      const text = `its brand ${brand} is not one of this platform: nothing is mounted in it`;
      add('unknown-brand', text, `zonecfg -z ${zonename} info brand; ls /usr/lib/brand`);
    }
    checkLink(zone, add);
    config.damaged.forEach(({ name, text }) => add(`${name}-damaged`, text));
    await this.checkVmData(zone, configs, shared, add);
    await this.checkWrites(zone, config, shared, add);
    return problems;
  }

  /** The zone's `<zonepath>/config`, as a path of this machine. */
  configDirectory(zone: Zone): string {
    return this.node.paths.host(`${zone.facts.zonepath}/config`);
  }

  private async checkVmData(
    zone: Zone,
    configs: ConfigChecks,
    { vminfod, states, mayAskVminfod }: Shared,
    add: Add,
  ): Promise<void> {
    const { zonename } = zone;
    const { store } = this.node;
    const facts = store.facts(zonename);
    const now = Date.now();
    if (facts === undefined && now - (zone.history()[0]?.since ?? 0) > LOAD_MS) {
      add('vm-data-missing', 'vminfod has not reported its VM', `vmadm get ${zonename}`);
    }
    if (facts === undefined || vminfod.reason !== null) {
      // A problem of vminfod is the node's: every zone that changes meanwhile would show it again.
      return;
    }
    const settledAt = Math.max(zone.history().at(-1)?.since ?? 0, this.changed.get(zonename) ?? 0);
    let why = now - settledAt > STATE_SHOWN_MS ? whyBehind(facts, zone, states) : null;
    const data = store.data(zonename);
    if (why === null && data !== undefined) {
      const isBehind = await configs.isBehind(data, facts.lastModified, mayAskVminfod);
      why = isBehind ? 'it does not show what the config files hold' : null;
    }
    if (why !== null) {
      add('vminfod-behind', `vminfod is behind: ${why}`, 'svcadm restart vminfod');
    }
  }

  private async checkWrites(
    zone: Zone,
    config: ConfigCheck,
    { writes, failures }: Shared,
    add: Add,
  ): Promise<void> {
    const { zonename } = zone;
    const write = writes.get(zonename);
    if (write !== undefined && write.stage !== 'slowed' && write.oldestMs >= LONG_WAIT_MS) {
      add('write-waiting', `a write has waited for ${inWords(write.oldestMs)} (${write.stage})`);
    }
    // Where somebody has written the files since, the failure is over.
    const last = failures.get(zonename);
    const failure = last === undefined || config.changedAt > last.at ? null : last;
    const ago = failure === null ? '' : `${inWords(Date.now() - failure.at)} ago`;
    const isFull = failure?.code === 'ENOSPC' || failure?.code === 'EDQUOT';
    const room = await this.freeSpace.scarce(zone, isFull);
    if (room !== null) {
      const failed = isFull ? `; a write failed ${ago} (${failure.code})` : '';
      const free = `${inBytes(room)} free, a write may need ${inBytes(this.freeSpace.leastRoom)}`;
      add('disk-full', `its disk is full: ${free}${failed}`, `vmadm update ${zonename} quota=GIB`);
    }
    if (failure === null || isFull) {
      return;
    }
    if (failure.code === 'size' || failure.code === 'keys') {
      add('metadata-full', `its metadata is full (${failure.code}): a write was refused ${ago}`);
    } else {
      add('writes-failing', `its last write failed ${ago} (${failure.code})`);
    }
  }
}

/** Not by a thread of the pool: where disks hang, health would hang with them. */
function brandsIn(directory: string): readonly string[] | null {
  try {
    return readdirSync(directory);
  } catch {
    // Off SmartOS there is none; and nobody's brand is wrong because no descriptor is left.
    return null;
  }
}

type Add = (reason: ZoneReason, text: string, remedy?: string) => void;

function checkLink(zone: Zone, add: Add): void {
  const { kind, link } = zone.link;
  if (kind === 'port') {
    const isAway = link.state === 'waiting' || link.state === 'connecting';
    if (!isAway || zone.state !== 'running' || !zone.answers) {
      return;
    }
    if (isHeld(link)) {
      add('port-held', 'another program holds its serial port');
    } else if (Date.now() - (zone.history().at(-1)?.since ?? 0) > BOOT_MS) {
      add('port-not-reachable', 'its serial port cannot be reached');
    }
    return;
  }
  const history = link.history();
  const since = history[history.findLastIndex(({ state }) => state === 'listening') + 1]?.since;
  if (link.state !== 'listening' && Date.now() - (since ?? 0) > REBIND_MS) {
    add('socket-not-listening', `its socket does not listen (${link.state})`);
  }
  const reboot = `vmadm reboot ${zone.zonename}`;
  const mount = zone.directory?.state;
  if (mount === 'not mounted') {
    add('not-mounted', 'it runs without its metadata directory', reboot);
  } else if (mount === 'not known') {
    add('mount-not-known', 'whether its metadata directory is mounted cannot be seen');
  } else if (zone.mountCheck() === 'another') {
    const text = 'its metadata directory was unmounted, or replaced while it runs';
    add('mount-replaced', text, reboot);
  }
}

/** A port that is held accepts a connection and ends it at once; one without a hypervisor accepts none. */
export function isHeld(link: Pick<SerialLink, 'history'>): boolean {
  const history = link.history();
  const waiting = history.findLastIndex(({ state }) => state === 'waiting');
  const [before, after] = [history[waiting - 1], history[waiting]];
  return before?.state === 'connected' && (after?.since ?? 0) - before.since < HELD_MS;
}

/** The worst of some problems. */
export function stateOf(problems: readonly Problem[]): HealthState {
  if (problems.some(({ state }) => state === 'failed')) {
    return 'failed';
  }
  return problems.length > 0 ? 'degraded' : 'ok';
}
