/*
 * The agent in one view: what `mdatactl status` shows and monitors read as JSON, and the same as kang wants it,
 * Triton's convention for looking into services.
 *
 * Gathered when somebody asks, in slices: a status of thousands of zones delays no request.
 */
import { percentile } from '../metrics';
import { CooperativeYield } from '../lib/scheduler';
import type { SelfHealth } from './watchdog';
import { levelOf } from './tail';
import type { AdminNode, AgentPhase } from './node';
import { platformState } from './platform-states';
import { hostname } from 'node:os';
import type { AuditCounts } from '../datasets/live-audit';
import type { LoopDelay } from '../platform/loop-delay';
import type { WriterStatus } from '../vm/metadata-writer';
import { lastWarning, type Warning, zoneReport } from './zone-report';
import type { HealthSnapshot, HealthState, Problem } from './health';
import type { VminfodHealth } from './vminfod-health';

/** More are counted, not listed. */
const MOST_LISTED = 20;

/** Something that vasync works on. */
export interface Progress {
  readonly what: string;
  readonly pending: number;
  readonly waiting: number;
}

export interface Status {
  readonly version: string;
  readonly pid: number;
  readonly root: string;
  readonly phase: AgentPhase;
  readonly health: {
    readonly state: HealthState;
    /** One line: `ok`, or the state and what is wrong. */
    readonly summary: string;
    /** Of the node first, then of its zones. */
    readonly problems: readonly Problem[];
    readonly problemsInAll: number;
    /** Zones that are not healthy, by reason. */
    readonly zonesByReason: Readonly<Record<string, number>>;
  };
  readonly startedAt: number;
  readonly uptimeMs: number;
  readonly log: {
    readonly level: string;
    readonly lostRecords: number;
    readonly followers: number;
  };
  readonly zones: {
    readonly total: number;
    readonly byState: Readonly<Record<string, number>>;
    readonly byBrand: Readonly<Record<string, number>>;
  };
  readonly sockets: { readonly total: number; readonly listening: number };
  readonly ports: { readonly total: number; readonly connected: number; readonly waiting: number };
  readonly requests: {
    readonly total: number;
    readonly failures: number;
    readonly perSecond: number;
    /** Of the last minute; null when it is over the histogram's last bound. */
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
    readonly openConnections: number;
    /** WATCH requests that wait for a change. */
    readonly waitingWatches: number;
    /** Requests that wait for a VM object. */
    readonly waitingForVm: number;
  };
  readonly writes: WriterStatus & {
    readonly locksHeld: number;
    readonly unconfirmed: number;
    readonly restored: number;
  };
  readonly vminfod: VminfodHealth;
  readonly inProgress: readonly Progress[];
  readonly memory: { readonly rssBytes: number; readonly ceilingBytes: number };
  readonly loop: LoopDelay;
  readonly limitsHit: Readonly<Record<string, number>>;
  readonly events: { readonly total: number; readonly lagMs: number };
  readonly repairs: Readonly<Record<string, number>>;
  readonly faults: number;
  /** What the live audit found of delegated datasets. */
  readonly datasets: AuditCounts;
  /** Recent warnings of zones' logs. They are not health. */
  readonly warnings: readonly (Warning & { readonly zonename: string })[];
  readonly warningsInAll: number;
}

/** The agent's state now, for `mdatactl status`. */
export async function statusOf(
  node: AdminNode,
  self: SelfHealth,
  health: HealthSnapshot,
): Promise<Status> {
  const { metrics, store } = node;
  const { waiting, writer, holds, unconfirmed, restored } = store.status();
  const zoneCounts = await countZones(node, health);
  return {
    version: node.version,
    pid: process.pid,
    root: node.paths.root,
    phase: node.phase(),
    health: listedHealth(health),
    startedAt: node.startedAt,
    uptimeMs: Date.now() - node.startedAt,
    log: { level: levelOf(node.log), lostRecords: node.lostRecords(), followers: node.tail.size },
    ...zoneCounts,
    requests: { ...requestsOf(node), waitingForVm: waiting },
    writes: { ...writer, locksHeld: holds, unconfirmed, restored },
    vminfod: health.vminfod,
    inProgress: progressOf(node),
    memory: { rssBytes: self.rssBytes, ceilingBytes: self.ceilingBytes },
    loop: self.loop,
    limitsHit: Object.fromEntries(metrics.refusals),
    events: { total: metrics.zoneEvents, lagMs: metrics.eventLagMs },
    repairs: Object.fromEntries(metrics.repairs),
    faults: metrics.faults,
    datasets: node.datasets.counts(),
  };
}

function listedHealth({
  state,
  summary,
  node,
  zones,
  zonesByReason,
}: HealthSnapshot): Status['health'] {
  const problems = [...node, ...[...zones.values()].flat()];
  return {
    state,
    summary,
    problems: problems.slice(0, MOST_LISTED),
    problemsInAll: problems.length,
    zonesByReason: Object.fromEntries(zonesByReason),
  };
}

function requestsOf({ metrics }: AdminNode): Omit<Status['requests'], 'waitingForVm'> {
  const { latencies, spanMs } = metrics.recent.read();
  const recent = latencies.reduce((sum, { count }) => sum + count, 0);
  let total = 0;
  let failures = 0;
  for (const [name, count] of metrics.requests) {
    total += count;
    failures += name.endsWith(' FAILURE') ? count : 0;
  }
  const finite = (ms: number): number | null => (Number.isFinite(ms) ? ms : null);
  return {
    total,
    failures,
    perSecond: Math.round((recent / Math.max(1, spanMs / 1000)) * 100) / 100,
    p50Ms: finite(percentile(latencies, 0.5)),
    p99Ms: finite(percentile(latencies, 0.99)),
    openConnections: metrics.openConnections,
    waitingWatches: metrics.watchesWaiting(),
  };
}

function progressOf(node: AdminNode): Progress[] {
  const progress: Progress[] = [];
  const starting = node.starting();
  for (const { funcname, status } of starting?.operations ?? []) {
    if (status === 'waiting' || status === 'pending') {
      const pending = status === 'pending' ? 1 : 0;
      progress.push({ what: `start: ${funcname}`, pending, waiting: 1 - pending });
    }
  }
  const binding = node.registry()?.bindingStatus;
  if (binding !== undefined && binding.pending + binding.waiting > 0) {
    progress.push({ what: 'bringing zones up', ...binding });
  }
  return progress;
}

type ZoneCounts = Pick<Status, 'zones' | 'sockets' | 'ports' | 'warnings' | 'warningsInAll'>;

async function countZones(node: AdminNode, health: HealthSnapshot): Promise<ZoneCounts> {
  const byState = new Map<string, number>();
  const byBrand = new Map<string, number>();
  const sockets = { total: 0, listening: 0 };
  const ports = { total: 0, connected: 0, waiting: 0 };
  const warnings: (Warning & { zonename: string })[] = [];
  const zones = [...(node.registry()?.all() ?? [])];
  const slice = new CooperativeYield();
  for (const zone of zones) {
    await slice.pause();
    const state = platformState(zone, health.states);
    byState.set(state, (byState.get(state) ?? 0) + 1);
    byBrand.set(zone.facts.brand, (byBrand.get(zone.facts.brand) ?? 0) + 1);
    const { kind, link } = zone.link;
    if (kind === 'socket') {
      sockets.total++;
      sockets.listening += link.state === 'listening' ? 1 : 0;
    } else {
      ports.total++;
      ports.connected += link.state === 'connected' ? 1 : 0;
      ports.waiting += link.state === 'waiting' ? 1 : 0;
    }
    const warning = lastWarning(zone);
    if (warning !== null) {
      warnings.push({ zonename: zone.zonename, ...warning });
    }
  }
  return {
    zones: {
      total: zones.length,
      byState: Object.fromEntries(byState),
      byBrand: Object.fromEntries(byBrand),
    },
    sockets,
    ports,
    warnings: warnings.slice(0, MOST_LISTED),
    warningsInAll: warnings.length,
  };
}

/** Types of kang's objects. Ids that name objects of other services too (`zone`) are the uuids that those use. */
const TYPES = ['zone', 'link', 'write'] as const;

export type KangSnapshot = {
  readonly service: {
    readonly name: string;
    readonly component: string;
    readonly ident: string;
    readonly version: string;
  };
  readonly stats: Readonly<Record<string, unknown>>;
  readonly types: readonly string[];
} & Readonly<Record<(typeof TYPES)[number], Readonly<Record<string, unknown>>>>;

/** The agent as kang sees it: who we are, some metrics, and our objects under their types' names. */
export async function kangSnapshot(
  node: AdminNode,
  status: Status,
  health: HealthSnapshot,
): Promise<KangSnapshot> {
  const zones = [...(node.registry()?.all() ?? [])];
  const zone: [string, unknown][] = [];
  const link: [string, unknown][] = [];
  const slice = new CooperativeYield();
  for (const each of zones) {
    await slice.pause();
    const report = zoneReport(node, each, health);
    const { zonename, alias, brand, state, mount, requests, errors, refusals } = report;
    const { health: healthState, reasons } = report;
    const since = report.history.at(-1)?.since ?? null;
    zone.push([
      zonename,
      {
        ...{ alias, brand, state, since, health: healthState, reasons, mount },
        ...{ requests, errors, refusals, link: `link:${zonename}` },
      },
    ]);
    const { kind, path, connections, reconnects, linkHistory } = report;
    link.push([
      zonename,
      { kind, state: report.link, path, connections, reconnects, history: linkHistory },
    ]);
  }
  const write = status.writes.inProgress.map(({ zonename, ...rest }): [string, unknown] => [
    zonename,
    { ...rest, zone: `zone:${zonename}` },
  ]);
  const { requests, writes, vminfod, memory, loop, limitsHit, events, repairs } = status;
  return {
    service: {
      name: 'mdatad',
      component: 'metadata agent',
      ident: hostname(),
      version: node.version,
    },
    stats: {
      started: new Date(node.startedAt).toISOString(),
      uptime: status.uptimeMs,
      health: { state: health.state, summary: health.summary },
      memory: { rss: memory.rssBytes },
      requests,
      writes: { ...writes, inProgress: writes.inProgress.length },
      vminfod: { state: vminfod.state, since: vminfod.since, words: vminfod.words },
      loop,
      limitsHit,
      events,
      repairs,
    },
    types: TYPES,
    zone: Object.fromEntries(zone),
    link: Object.fromEntries(link),
    write: Object.fromEntries(write),
  };
}
