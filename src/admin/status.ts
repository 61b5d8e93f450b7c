/*
 * The agent in one view: what `mdatactl status` shows and monitors read as JSON, and the same as kang wants it,
 * Triton's convention for looking into services.
 *
 * Gathered when somebody asks, in slices: a status of thousands of zones delays no request.
 */
import { percentile } from '../metrics';
import type { SelfHealth } from './watchdog';
import { levelOf } from './tail';
import { zonesInSlices, type AdminNode } from './node';
import { platformState } from './platform-states';
import { hostname } from 'node:os';
import { lastWarning, type Warning, zoneReport } from './zone-report';
import type { HealthSnapshot, Problem } from './health';

/** More are counted, not listed. */
const MOST_LISTED = 20;

/** What `mdatactl status` shows, and monitors read as JSON. */
export type Status = Awaited<ReturnType<typeof statusOf>>;

/** The agent's state now. */
export async function statusOf(node: AdminNode, self: SelfHealth, health: HealthSnapshot) {
  const { metrics, store } = node;
  const { waiting, writer, holds, unconfirmed, restored } = store.status();
  const problems: Problem[] = [...health.node, ...[...health.zones.values()].flat()];
  return {
    version: node.version,
    pid: process.pid,
    root: node.paths.root,
    phase: node.phase(),
    health: {
      state: health.state,
      /** One line: `ok`, or the state and what is wrong. */
      summary: health.summary,
      /** Of the node first, then of its zones. */
      problems: problems.slice(0, MOST_LISTED),
      problemsInAll: problems.length,
      /** Zones that are not healthy, by reason. */
      zonesByReason: Object.fromEntries(health.zonesByReason),
    },
    /** Milliseconds since 1970. */
    startedAt: node.startedAt,
    uptimeMs: Date.now() - node.startedAt,
    log: { level: levelOf(node.log), lostRecords: node.lostRecords(), followers: node.tail.size },
    ...(await countZones(node, health)),
    requests: {
      ...requestsOf(node),
      /** Requests that wait for a VM object. */
      waitingForVm: waiting,
    },
    writes: { ...writer, locksHeld: holds, unconfirmed, restored },
    vminfod: health.vminfod,
    inProgress: progressOf(node),
    memory: { rssBytes: self.rssBytes, ceilingBytes: self.ceilingBytes },
    loop: self.loop,
    limitsHit: Object.fromEntries(metrics.refusals),
    events: { total: metrics.zoneEvents, lagMs: metrics.eventLagMs },
    repairs: Object.fromEntries(metrics.repairs),
    faults: metrics.faults,
    /** What the live audit found of delegated datasets. */
    datasets: node.datasets.counts(),
  };
}

function requestsOf({ metrics }: AdminNode) {
  const { latencies, spanMs } = metrics.recent.read();
  const recent = latencies.reduce((sum, { count }) => sum + count, 0);
  let total = 0;
  let failures = 0;
  for (const [name, count] of metrics.requests) {
    total += count;
    failures += name.endsWith(' FAILURE') ? count : 0;
  }
  const quantile = (part: number): number | null => {
    const ms = percentile(latencies, part);
    return Number.isFinite(ms) ? ms : null;
  };
  return {
    total,
    failures,
    perSecond: Math.round((recent / Math.max(1, spanMs / 1000)) * 100) / 100,
    /** Of the last minute; null when it is over the histogram's last bound. */
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    openConnections: metrics.openConnections,
    /** WATCH requests that wait for a change. */
    waitingWatches: metrics.watchesWaiting(),
  };
}

/** What the start and the zones' sockets are busy with. */
function progressOf(node: AdminNode) {
  const started = (node.starting()?.operations ?? []).flatMap(({ funcname, status }) => {
    const pending = status === 'pending' ? 1 : 0;
    return pending === 1 || status === 'waiting'
      ? [{ what: `start: ${funcname}`, pending, waiting: 1 - pending }]
      : [];
  });
  const binding = node.registry()?.bindingStatus;
  return binding !== undefined && binding.pending + binding.waiting > 0
    ? [...started, { what: 'bringing zones up', ...binding }]
    : started;
}

async function countZones(node: AdminNode, health: HealthSnapshot) {
  const byState = new Map<string, number>();
  const byBrand = new Map<string, number>();
  const sockets = { total: 0, listening: 0 };
  const ports = { total: 0, connected: 0, waiting: 0 };
  const warnings: (Warning & { zonename: string })[] = [];
  let total = 0;
  for await (const zone of zonesInSlices(node)) {
    total++;
    const { brand } = zone.facts;
    const state = platformState(zone, health.states);
    byState.set(state, (byState.get(state) ?? 0) + 1);
    byBrand.set(brand, (byBrand.get(brand) ?? 0) + 1);
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
      total,
      byState: Object.fromEntries(byState),
      byBrand: Object.fromEntries(byBrand),
    },
    sockets,
    ports,
    /** Recent warnings of zones' logs. They are not health. */
    warnings: warnings.slice(0, MOST_LISTED),
    warningsInAll: warnings.length,
  };
}

/** Types of kang's objects. Ids that name objects of other services too (`zone`) are the uuids that those use. */
const TYPES = ['zone', 'link', 'write'] as const;

export type KangSnapshot = Awaited<ReturnType<typeof kangSnapshot>>;

/** The agent as kang sees it: who we are, some metrics, and our objects under their types' names. */
export async function kangSnapshot(node: AdminNode, status: Status, health: HealthSnapshot) {
  const zone: Record<string, unknown> = {};
  const link: Record<string, unknown> = {};
  const write: Record<string, unknown> = {};
  for await (const each of zonesInSlices(node)) {
    const report = zoneReport(node, each, health);
    const { zonename, alias, brand, state, mount, requests, errors, refusals } = report;
    const { health: healthState, reasons } = report;
    const since = report.history.at(-1)?.since ?? null;
    zone[zonename] = {
      ...{ alias, brand, state, since, health: healthState, reasons, mount },
      ...{ requests, errors, refusals, link: `link:${zonename}` },
    };
    const { kind, path, connections, reconnects, linkHistory } = report;
    const history = linkHistory;
    link[zonename] = { kind, state: report.link, path, connections, reconnects, history };
  }
  for (const { zonename, ...rest } of status.writes.inProgress) {
    write[zonename] = { ...rest, zone: `zone:${zonename}` };
  }
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
    zone,
    link,
    write,
  };
}
