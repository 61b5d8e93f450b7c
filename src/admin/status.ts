/*
 * The agent in one look: what `mdatactl status` shows and monitors read as JSON.
 *
 * A snapshot, gathered when somebody asks, in slices: a status of thousands of zones holds up no request.
 */
import { percentile } from '../metrics';
import { CooperativeYield } from '../lib/scheduler';
import type { SelfHealth } from './watchdog';
import { levelOf } from './log-level';
import type { AdminNode, AgentPhase } from './node';
import type { AuditCounts } from '../datasets/live-audit';
import type { VminfodHealth } from './vminfod-health';
import type { HealthSnapshot, HealthState, Problem } from './health';
import type { LoopDelay } from '../platform/loop-delay';
import type { WriterStatus } from '../vm/metadata-writer';
import type { Zone } from '../zones/zone';
import { lastWarning, type Warning } from './zone-report';

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
  /** What the live audit says of delegated datasets. */
  readonly datasets: AuditCounts;
  /** Recent warnings of zones' logs. They are not health. */
  readonly warnings: readonly (Warning & { readonly zonename: string })[];
  readonly warningsInAll: number;
}

/** The agent's state at this moment, for `mdatactl status`. */
export async function statusOf(
  node: AdminNode,
  self: SelfHealth,
  health: HealthSnapshot,
): Promise<Status> {
  const { figures, store } = node;
  const { waiting, writer, holds, unconfirmed, restored } = store.status();
  const census = await takeCensus(node);
  return {
    version: node.version,
    pid: process.pid,
    root: node.paths.root,
    phase: node.phase(),
    health: healthShown(health),
    startedAt: node.startedAt,
    uptimeMs: Date.now() - node.startedAt,
    log: { level: levelOf(node.log), lostRecords: node.lostRecords(), followers: node.tail.size },
    ...census,
    requests: { ...requestsOf(node), waitingForVm: waiting },
    writes: { ...writer, locksHeld: holds, unconfirmed, restored },
    vminfod: health.vminfod,
    inProgress: progressOf(node),
    memory: { rssBytes: self.rssBytes, ceilingBytes: self.ceilingBytes },
    loop: self.loop,
    limitsHit: Object.fromEntries(figures.refusals),
    events: { total: figures.zoneEvents, lagMs: figures.eventLagMs },
    repairs: Object.fromEntries(figures.repairs),
    faults: figures.faults,
    datasets: node.datasets.counts(),
  };
}

function healthShown({
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

function requestsOf({ figures }: AdminNode): Omit<Status['requests'], 'waitingForVm'> {
  const { latencies, spanMs } = figures.recent.read();
  const recent = latencies.reduce((sum, { count }) => sum + count, 0);
  let total = 0;
  let failures = 0;
  for (const [name, count] of figures.requests) {
    total += count;
    failures += name.endsWith(' FAILURE') ? count : 0;
  }
  return {
    total,
    failures,
    perSecond: Math.round((recent / Math.max(1, spanMs / 1000)) * 100) / 100,
    p50Ms: finite(percentile(latencies, 0.5)),
    p99Ms: finite(percentile(latencies, 0.99)),
    openConnections: figures.openConnections,
    waitingWatches: figures.watchesWaiting(),
  };
}

function finite(ms: number): number | null {
  return Number.isFinite(ms) ? ms : null;
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

type Census = Pick<Status, 'zones' | 'sockets' | 'ports' | 'warnings' | 'warningsInAll'>;

async function takeCensus(node: AdminNode): Promise<Census> {
  const byState = new Map<string, number>();
  const byBrand = new Map<string, number>();
  const sockets = { total: 0, listening: 0 };
  const ports = { total: 0, connected: 0, waiting: 0 };
  const warnings: (Warning & { zonename: string })[] = [];
  const zones: Zone[] = [...(node.registry()?.all() ?? [])];
  const slice = new CooperativeYield();
  for (const zone of zones) {
    await slice.pause();
    byState.set(zone.state, (byState.get(zone.state) ?? 0) + 1);
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
