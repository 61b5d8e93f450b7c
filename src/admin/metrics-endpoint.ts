/*
 * The metrics, as Prometheus reads them.
 *
 * Counting is done elsewhere, in plain numbers (metrics.ts, request-log.ts, the store): a request costs
 * nothing here. Each metric reads its values when it is scraped. Label values that are known in advance have a
 * zero sample from the start, so that rates need no special case. Series of single zones are bounded: the
 * zones that have been known longest have them; the totals cover all zones, past ones included.
 */
import { readdir } from 'node:fs/promises';
import type { AuditRule } from '../datasets/audit';
import { BOOT_BOUNDS_MS, LATENCY_BOUNDS_MS } from '../metrics';
import type { RequestStats } from '../request-log';
import { ZONE_STATES } from '../platform/ffi';
import type { Refusal } from '../transport/link';
import type { Zone } from '../zones/zone';
import { ZONE_REASONS, type HealthSnapshot } from './health';
import { MetricFamilies, type Series } from './metric-families';
import type { AdminNode } from './node';
import { platformState } from './platform-states';
import type { SelfHealth } from './watchdog';

/** Zones with series of their own: some hundred kilobytes of text at most. */
const MOST_ZONE_SERIES = 512;

const VERBS = [
  ...(['GET', 'KEYS', 'PUT', 'DELETE'] as const),
  ...(['WATCH', 'GETALL', 'PUTIF', 'DELETEIF', 'HELLO'] as const),
];
const OUTCOMES = ['SUCCESS', 'NOTFOUND', 'FAILURE'] as const;
const REPAIRS = ['missed creation', 'missed deletion', 'missed state', 'changed identity'] as const;
const LINKS = ['socket listening', 'port connected', 'port waiting'] as const;
/** Every refusal reason, as transport/link.ts names them. */
const REFUSALS: readonly Refusal[] = [
  'peer',
  'connections',
  'line',
  'broken-frame',
  'bad-line',
  'queue',
  'unsent',
  'idle',
  'unread',
  'rate',
  'dropped-reply',
  'writes',
  'keys',
  'size',
  'waiting-writes',
];
/** The rules of delegated datasets that VMs break most. */
const VM_RULES: readonly AuditRule[] = [
  'receive-granted',
  'privileges-unreadable',
  'limit-missing',
  'limit-exceeded',
];
const NO_LATENCY = { buckets: [], sumMs: 0, count: 0 };
const WRITE_STAGES = ['slowed', 'locking', 'queued', 'writing'] as const;

/** The text formats that can be negotiated. */
export type Format = 'prometheus' | 'openmetrics';

export interface Metrics {
  contentType(format: Format): string;
  text(format: Format): Promise<string>;
  /** The same as prom-client's objects. */
  json(): Promise<unknown>;
}

/** All metrics of the agent. Nothing is counted here: values are read when somebody scrapes them. */
export function makeMetrics(
  node: AdminNode,
  self: () => SelfHealth,
  health: () => Promise<HealthSnapshot>,
): Metrics {
  const families = {
    prometheus: familiesOf(node, self, health, false),
    openmetrics: familiesOf(node, self, health, true),
  };
  return {
    contentType: (format) => families[format].contentType,
    text: (format) => families[format].metrics(),
    json: () => families.prometheus.getMetricsAsJSON(),
  };
}

function familiesOf(
  node: AdminNode,
  self: () => SelfHealth,
  health: () => Promise<HealthSnapshot>,
  openMetrics: boolean,
): MetricFamilies['registry'] {
  const to = new MetricFamilies(openMetrics);
  addHealth(to, health);
  addRequests(to, node);
  addWrites(to, node);
  addZones(to, node, health);
  addPorts(to, node);
  addEachZone(to, node);
  addVminfod(to, node);
  addDatasets(to, node);
  addProcess(to, node, self);
  return to.registry;
}

function addHealth(to: MetricFamilies, health: () => Promise<HealthSnapshot>): void {
  const healthy = '1 while the agent and all its zones are healthy, 0 when degraded or failed.';
  to.gauge('mdatad_healthy', healthy, [], async () => one((await health()).state === 'ok' ? 1 : 0));
  const unhealthy =
    'Zones that are not healthy, by reason; a zone counts under each of its reasons.';
  to.gauge('mdatad_zones_unhealthy', unhealthy, ['reason'], async () =>
    byName('reason', withZeros((await health()).zonesByReason, Object.keys(ZONE_REASONS))),
  );
}

function addRequests(to: MetricFamilies, { metrics }: AdminNode): void {
  to.counter('mdatad_requests_total', 'Requests answered.', ['verb', 'outcome'], () =>
    byTwoNames('verb', 'outcome', withZeros(metrics.requests, pairs(VERBS, OUTCOMES))),
  );
  to.histogram(
    'mdatad_request_duration_seconds',
    'From the last byte of a request to the write of its reply.',
    ['verb'],
    LATENCY_BOUNDS_MS.map((ms) => ms / 1000),
    () =>
      VERBS.map((verb) => {
        const { buckets, sumMs, count } = metrics.latency.get(verb) ?? NO_LATENCY;
        return { labels: { verb }, counts: buckets, sum: sumMs / 1000, count };
      }),
  );
  to.counter('mdatad_bytes_total', 'Bytes on zone sockets and serial ports.', ['direction'], () => [
    [{ direction: 'received' }, metrics.bytesReceived],
    [{ direction: 'sent' }, metrics.bytesSent],
  ]);
  to.counter('mdatad_refusals_total', 'Refusals: what met a limit or a rule.', ['reason'], () =>
    byName('reason', withZeros(metrics.refusals, REFUSALS)),
  );
  const accepted = 'Connections accepted on zone sockets or made to serial ports.';
  to.counter('mdatad_connections_total', accepted, [], () => one(metrics.acceptedConnections));
  to.gauge('mdatad_connections', 'Open connections.', [], () => one(metrics.openConnections));
  to.gauge('mdatad_watches_waiting', 'WATCH requests that wait for a change.', [], () =>
    one(metrics.watchesWaiting()),
  );
  const faults = 'Requests that failed because of a bug in the agent.';
  to.counter('mdatad_faults_total', faults, [], () => one(metrics.faults));
}

function addWrites(to: MetricFamilies, { store }: AdminNode): void {
  to.counter('mdatad_writes_total', 'PUT and DELETE requests, by outcome.', ['outcome'], () => {
    const { stored, failed, changed, joined, timedOut } = store.status().writer;
    const all = { stored, failed, changed, joined, timed_out: timedOut };
    return byName('outcome', Object.entries(all));
  });
  to.gauge('mdatad_writes_in_progress', 'VMs with writes in progress, by stage.', ['stage'], () => {
    const stages = store.status().writer.inProgress.map(({ stage }) => stage);
    return byName('stage', countEach(stages, WRITE_STAGES));
  });
  const held = 'VM configuration locks held until vminfod shows the change.';
  to.gauge('mdatad_config_locks_held', held, [], () => one(store.status().holds));
  const unconfirmed = 'Writes that vminfod did not show within 2 seconds.';
  to.counter('mdatad_writes_unconfirmed_total', unconfirmed, [], () =>
    one(store.status().unconfirmed),
  );
  const restored = 'Changes of metadata that were made again after a stale copy had undone them.';
  to.counter('mdatad_writes_restored_total', restored, [], () => one(store.status().restored));
}

function addZones(
  to: MetricFamilies,
  node: AdminNode,
  health: () => Promise<HealthSnapshot>,
): void {
  const { metrics } = node;
  to.gauge('mdatad_zones', 'Zones, by state.', ['state'], async () => {
    const { states } = await health();
    const words = zonesOf(node).map((zone) => platformState(zone, states));
    return byName('state', countEach(words, ZONE_STATES));
  });
  to.gauge('mdatad_links', 'Zone sockets and serial ports, by state.', ['kind', 'state'], () => {
    const links = zonesOf(node).map(({ link }) => `${link.kind} ${link.link.state}`);
    return byTwoNames('kind', 'state', countEach(links, LINKS));
  });
  to.counter('mdatad_zone_events_total', 'Zone state events received.', [], () =>
    one(metrics.zoneEvents),
  );
  const lag = 'Delay between the last zone event and its delivery to the agent.';
  to.gauge('mdatad_zone_event_lag_seconds', lag, [], () => one(metrics.eventLagMs / 1000));
  const repairs = 'Differences that the reconcile repaired: events that were missed.';
  to.counter('mdatad_reconcile_repairs_total', repairs, ['repair'], () =>
    byName('repair', withZeros(metrics.repairs, REPAIRS)),
  );
}

/** The ports of HVM guests. */
function addPorts(to: MetricFamilies, { metrics }: AdminNode): void {
  const { ports, bootToAnswer } = metrics;
  const again = 'Reconnects to serial ports.';
  to.counter('mdatad_reconnects_total', again, [], () => one(ports.reconnects));
  const lost = 'Serial port connections that ended.';
  to.counter('mdatad_port_disconnects_total', lost, [], () => one(ports.disconnects));
  const held = 'Times that another program held the serial port of a VM.';
  to.counter('mdatad_port_held_total', held, [], () => one(ports.held));
  const dropped = 'Bytes on serial ports that were not part of a request.';
  to.counter('mdatad_port_dropped_bytes_total', dropped, [], () => one(ports.droppedBytes));
  to.histogram(
    'mdatad_boot_to_answer_seconds',
    "Time from an HVM zone running to its guest's first answered request.",
    [],
    BOOT_BOUNDS_MS.map((ms) => ms / 1000),
    () => {
      const { buckets, sumMs, count } = bootToAnswer;
      return [{ labels: {}, counts: buckets, sum: sumMs / 1000, count }];
    },
  );
}

function addEachZone(to: MetricFamilies, node: AdminNode): void {
  const each = (name: string, help: string, read: (stats: RequestStats) => number): void => {
    to.counter(name, help, ['zonename'], () => perZone(node, read));
  };
  each('mdatad_zone_requests_total', 'Requests, by zone.', (stats) => stats.requests);
  each(
    'mdatad_zone_errors_total',
    'Requests answered FAILURE, by zone.',
    (stats) => stats.failures,
  );
  each('mdatad_zone_refusals_total', 'Refusals, by zone.', (stats) => stats.refusals);
}

function addVminfod(to: MetricFamilies, { store }: AdminNode): void {
  const status = (): ReturnType<typeof store.status> => store.status();
  const following = '1 while the event stream of vminfod is open, else 0.';
  to.gauge('mdatad_vminfod_following', following, [], () =>
    one(status().vminfod.state === 'following' ? 1 : 0),
  );
  to.counter(
    'mdatad_vminfod_reconnects_total',
    'Reconnects to the event stream of vminfod.',
    [],
    () => one(status().vminfod.reconnects),
  );
  to.gauge('mdatad_vms', 'VM objects known from vminfod.', [], () => one(status().vms));
  const waiting = 'Requests waiting for a VM object.';
  to.gauge('mdatad_requests_waiting_for_vm', waiting, [], () => one(status().waiting));
}

function addDatasets(to: MetricFamilies, { datasets }: AdminNode): void {
  const audited = 'VMs with delegated datasets, by verdict of the last audit.';
  to.gauge('mdatad_datasets', audited, ['verdict'], () =>
    byName('verdict', Object.entries(datasets.counts().verdicts)),
  );
  const broken = 'VMs that break a rule of the "safe" policy, by rule.';
  to.gauge('mdatad_dataset_rules_broken', broken, ['rule'], () =>
    byName('rule', withZeros(Object.entries(datasets.counts().rules), VM_RULES)),
  );
  const warnings = 'Warnings about unsafe datasets, one for each change.';
  to.counter('mdatad_dataset_warnings_total', warnings, [], () => one(datasets.counts().warnings));
}

function addProcess(to: MetricFamilies, node: AdminNode, self: () => SelfHealth): void {
  const build = { version: node.version, node: process.version };
  to.gauge(
    'mdatad_build_info',
    'Always 1; the labels are the versions.',
    Object.keys(build),
    () => [[build, 1]],
  );
  const late = 'How long the event loop delayed a request, in the last ten seconds.';
  to.summary('mdatad_event_loop_delay_seconds', late, () => {
    const { p50Ms, p99Ms, maxMs } = self().loop;
    return [
      [0.5, p50Ms / 1000],
      [0.99, p99Ms / 1000],
      [1, maxMs / 1000],
    ];
  });
  const work =
    'CPU time of the iteration of the event loop that took most of it, in the last ten seconds.';
  to.gauge('mdatad_event_loop_cpu_max_seconds', work, [], () => one(self().loop.maxCpuMs / 1000));
  const leftOut = 'Log records suppressed by the rate limit of their zone.';
  to.counter('mdatad_log_records_suppressed_total', leftOut, [], () =>
    one(node.metrics.recordsSuppressed),
  );
  const lost = 'Log records that could not be written.';
  to.counter('mdatad_log_records_lost_total', lost, [], () => one(node.lostRecords()));
  const ceiling = 'Memory use above which the agent raises an alarm.';
  to.gauge('mdatad_memory_ceiling_bytes', ceiling, [], () => one(self().ceilingBytes));
  to.gauge('process_resident_memory_bytes', 'Resident memory size.', [], () =>
    one(self().rssBytes),
  );
  to.gauge(
    'process_start_time_seconds',
    'Start time of the process since the Unix epoch.',
    [],
    () => one(node.startedAt / 1000),
  );
  to.gauge('process_open_fds', 'Open file descriptors.', [], async () => one(await openFds()));
  to.counter('process_cpu_seconds_total', 'User and system CPU time spent.', [], () => {
    const { user, system } = process.cpuUsage();
    return one((user + system) / 1e6);
  });
}

/** Their number, from the process' own directory in /proc, which illumos and Linux both have. */
async function openFds(): Promise<number> {
  const names = await readdir('/proc/self/fd').catch(() => []);
  // Reading the directory takes one itself.
  return Math.max(0, names.length - 1);
}

function zonesOf(node: AdminNode): Zone[] {
  return [...(node.registry()?.all() ?? [])];
}

/** Zones without a request have no series; where no zone has one, a sample without a zone stands in. */
function perZone(node: AdminNode, read: (stats: RequestStats) => number): Series {
  const series: [{ zonename: string }, number][] = [];
  for (const zone of zonesOf(node)) {
    const stats = node.requestLogOf(zone)?.stats;
    if (stats === undefined || stats.requests + stats.refusals === 0) {
      continue;
    }
    series.push([{ zonename: zone.zonename }, read(stats)]);
    if (series.length === MOST_ZONE_SERIES) {
      break;
    }
  }
  return series.length === 0 ? one(0) : series;
}

function one(value: number): Series {
  return [[{}, value]];
}

function byName(label: string, counts: Iterable<readonly [string, number]>): Series {
  return [...counts].map(([name, count]) => [{ [label]: name }, count] as const);
}

/** Two names with a blank between them, one for each label. */
function byTwoNames(
  first: string,
  second: string,
  counts: Iterable<readonly [string, number]>,
): Series {
  return [...counts].map(([names, count]) => {
    const [a = '', b = ''] = names.split(' ');
    return [{ [first]: a, [second]: b }, count] as const;
  });
}

/** Counts with a zero for each known name that has none yet. */
function withZeros(
  counts: Iterable<readonly [string, number]>,
  known: readonly string[],
): Map<string, number> {
  return new Map([...known.map((name) => [name, 0] as const), ...counts]);
}

function pairs(first: readonly string[], second: readonly string[]): string[] {
  return first.flatMap((a) => second.map((b) => `${a} ${b}`));
}

/** @param known counted as 0 where there is none, so that their series do not come and go */
function countEach(names: readonly string[], known: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>(known.map((name) => [name, 0]));
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
