/*
 * What operators see: the agent in one view, a row of each zone, all about one zone, and the agent as kang wants it,
 * Triton's convention for looking into services.
 *
 * Gathered when somebody asks, from the agent's own state and the last evaluation of its health; neither the platform
 * nor vminfod is asked. No metadata value is in it.
 */
import { hostname } from 'node:os';
import { messageOf } from '../lib/errors';
import { aliasOf } from '../metadata/vm-data';
import { percentile } from '../metrics';
import type { Zone } from '../zones/zone';
import { countEach } from './format';
import { stateOf, type HealthSnapshot, type Problem } from './health';
import { platformState, inSlices, type AdminNode } from './node';
import { levelOf } from './tail';

/** More are counted, not listed. */
const MOST_LISTED = 20;
/** A warning in a zone's log is news for this long. */
const RECENT_MS = 5 * 60_000;
/** In the place of what is not known while the zone's file system does not answer. */
const NOT_ANSWERING = 'not answering';

export type Status = Awaited<ReturnType<typeof statusOf>>;

/** What `mdatactl status` shows, and monitors read as JSON. */
export async function statusOf(node: AdminNode, health: HealthSnapshot) {
  const { metrics, store } = node;
  const { waiting, writer, holds, unconfirmed, restored } = store.status();
  const { rssBytes, ceilingBytes, loop } = health.self;
  const problems: Problem[] = [...health.node, ...[...health.zones.values()].flat()];
  return {
    version: node.version,
    pid: process.pid,
    root: node.paths.root,
    phase: node.phase(),
    health: {
      state: health.state,
      summary: health.summary,
      /** Of the node first, then of its zones. */
      problems: problems.slice(0, MOST_LISTED),
      problemsInAll: problems.length,
      zonesByReason: Object.fromEntries(health.zonesByReason),
    },
    /** Milliseconds since 1970. */
    startedAt: node.startedAt,
    uptimeMs: Date.now() - node.startedAt,
    log: { level: levelOf(node.log), lostRecords: node.lostRecords(), followers: node.tail.size },
    ...(await countZones(node, health)),
    requests: { ...requestsOf(node), waitingForVm: waiting },
    writes: { ...writer, locksHeld: holds, unconfirmed, restored },
    vminfod: health.vminfod,
    inProgress: progressOf(node),
    memory: { rssBytes, ceilingBytes },
    loop,
    limitsHit: Object.fromEntries(metrics.refusals),
    events: { total: metrics.zoneEvents, lagMs: metrics.eventLagMs },
    repairs: Object.fromEntries(metrics.repairs),
    faults: metrics.faults,
    datasets: node.datasets.counts(),
  };
}

function requestsOf({ metrics }: AdminNode) {
  const { latencies, spanMs } = metrics.recent.read();
  const recent = latencies.reduce((sum, { count }) => sum + count, 0);
  let [total, failures] = [0, 0];
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
    waitingWatches: metrics.watchesWaiting(),
  };
}

/** What the start and the zones' sockets are busy with. */
function progressOf(node: AdminNode) {
  const steps = (node.starting()?.operations ?? []).map(({ funcname, status }) => {
    const [pending, waiting] = [Number(status === 'pending'), Number(status === 'waiting')];
    return { what: `start: ${funcname}`, pending, waiting };
  });
  const all = [...steps, { what: 'bringing zones up', ...node.zones.bindingStatus }];
  return all.filter(({ pending, waiting }) => pending + waiting > 0);
}

async function countZones(node: AdminNode, health: HealthSnapshot) {
  const zones: Zone[] = [];
  const warnings: { zonename: string; time: string; text: string }[] = [];
  for await (const zone of inSlices([...node.zones.all()])) {
    zones.push(zone);
    const warning = lastWarning(zone);
    if (warning !== null) {
      warnings.push({ zonename: zone.zonename, ...warning });
    }
  }
  const byState = countEach(zones.map((zone) => platformState(zone, health.states)));
  const byBrand = countEach(zones.map(({ facts }) => facts.brand));
  const links = countEach(
    zones.flatMap(({ link: { kind, link } }) => [kind, `${kind} ${link.state}`]),
  );
  const count = (name: string): number => links.get(name) ?? 0;
  return {
    zones: {
      total: zones.length,
      byState: Object.fromEntries(byState),
      byBrand: Object.fromEntries(byBrand),
    },
    sockets: { total: count('socket'), listening: count('socket listening') },
    ports: {
      total: count('port'),
      connected: count('port connected'),
      waiting: count('port waiting'),
    },
    /** Recent warnings of zones' logs. They are not health. */
    warnings: warnings.slice(0, MOST_LISTED),
    warningsInAll: warnings.length,
  };
}

export type ZoneRow = ReturnType<typeof zoneRow>;

/** All zones, each as a line of `mdatactl zones`. */
export async function zoneRows(node: AdminNode, health: HealthSnapshot): Promise<ZoneRow[]> {
  const rows: ZoneRow[] = [];
  for await (const zone of inSlices([...node.zones.all()])) {
    rows.push(zoneRow(node, zone, health));
  }
  return rows;
}

function zoneRow(node: AdminNode, zone: Zone, health: HealthSnapshot) {
  const { zonename, directory } = zone;
  const { kind, link } = zone.link;
  const problems = health.zones.get(zonename) ?? [];
  const stats = node.requestLogOf(zone)?.stats;
  return {
    zonename,
    alias: aliasOf(node.store.table.vm(zonename)),
    brand: zone.facts.brand,
    /** The platform's word, as zoneadm list has it. */
    state: platformState(zone, health.states),
    health: stateOf(problems),
    /** Why it is not healthy, by the names of health.ts. */
    reasons: problems.map(({ reason }) => reason),
    kind,
    link: zone.answers || kind === 'socket' ? link.state : NOT_ANSWERING,
    connections: link.connections,
    /** The state of the directory's mount; null for an HVM zone. */
    mount: directory === null || zone.answers ? (directory?.state ?? null) : NOT_ANSWERING,
    requests: stats?.requests ?? 0,
    errors: stats?.failures ?? 0,
    refusals: stats?.refusals ?? 0,
    bytesReceived: stats?.bytesReceived ?? 0,
    bytesSent: stats?.bytesSent ?? 0,
    elapsedMs: stats?.elapsedMs ?? 0,
    /** Of an HVM zone's port; null for a socket. */
    reconnects: kind === 'port' ? link.counts.reconnects : null,
    lastRequest: stats?.lastRequest ?? null,
  };
}

export type ZoneReport = Awaited<ReturnType<typeof zoneReport>>;

/** All that the agent knows of a zone, for `mdatactl zone`. */
export async function zoneReport(node: AdminNode, zone: Zone, health: HealthSnapshot) {
  const { kind, link } = zone.link;
  const { zonename, facts } = zone;
  const write = node.store.status().writer.inProgress.find((w) => w.zonename === zonename);
  const use = node.store.metadataUse(zonename);
  const metadata = (await use.catch(() => undefined)) ?? null;
  return {
    ...zoneRow(node, zone, health),
    zonepath: facts.zonepath,
    path: link.path,
    history: zone.history(),
    linkHistory: link.history(),
    port: kind === 'port' ? link.counts : null,
    tally: node.requestLogOf(zone)?.stats ?? null,
    /** What vminfod knows of it, null when nothing. */
    vm: node.store.facts(zonename) ?? null,
    write:
      write === undefined
        ? null
        : { stage: write.stage, waiting: write.waiting, oldestMs: Math.round(write.oldestMs) },
    problems: health.zones.get(zonename) ?? [],
    warning: lastWarning(zone),
    records: zone.log.recent(),
    /** What it has used of its limits; null where its file cannot be read, which the doctor reports. */
    metadata,
  };
}

/** The last warning of the zone's log, where it is news. */
function lastWarning(zone: Zone) {
  const last = zone.log.recent().findLast(({ level }) => level === 'warn' || level === 'error');
  if (last === undefined || Date.now() - Date.parse(last.time) >= RECENT_MS) {
    return null;
  }
  const { err } = last.fields;
  const text = err === undefined ? last.msg : `${last.msg} (${messageOf(err)})`;
  return { time: last.time, text };
}

/** Types of kang's objects. Ids that name objects of other services too (`zone`) are the uuids that those use. */
const TYPES = ['zone', 'link', 'write'] as const;

export type KangSnapshot = Awaited<ReturnType<typeof kangSnapshot>>;

/** The agent as kang sees it: who we are, some metrics, and our objects under their types' names. */
export async function kangSnapshot(node: AdminNode, snapshot: HealthSnapshot) {
  const status = await statusOf(node, snapshot);
  const zone: Record<string, unknown> = {};
  const link: Record<string, unknown> = {};
  const write: Record<string, unknown> = {};
  for await (const each of inSlices([...node.zones.all()])) {
    const row = zoneRow(node, each, snapshot);
    const { zonename, alias, brand, state, health, reasons, mount } = row;
    const { requests, errors, refusals, kind, connections, reconnects } = row;
    zone[zonename] = {
      ...{ alias, brand, state, since: each.history().at(-1)?.since ?? null, health, reasons },
      ...{ mount, requests, errors, refusals, link: `link:${zonename}` },
    };
    const { path } = each.link.link;
    const history = each.link.link.history();
    link[zonename] = { kind, state: row.link, path, connections, reconnects, history };
  }
  for (const { zonename, ...rest } of status.writes.inProgress) {
    write[zonename] = { ...rest, zone: `zone:${zonename}` };
  }
  const { requests, writes, vminfod, memory, loop, limitsHit, events, repairs } = status;
  return {
    service: {
      ...{ name: 'mdatad', component: 'metadata agent' },
      ...{ ident: hostname(), version: node.version },
    },
    stats: {
      started: new Date(node.startedAt).toISOString(),
      uptime: status.uptimeMs,
      health: { state: snapshot.state, summary: snapshot.summary },
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
