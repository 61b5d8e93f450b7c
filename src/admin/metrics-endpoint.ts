/*
 * The metrics, as Prometheus reads them.
 *
 * Counting is done elsewhere, in plain numbers (metrics.ts, request-log.ts, the store); the families are made for each
 * scrape. Label values that are known in advance have a zero sample from the start, so that rates need no special case.
 * Series of single zones are bounded: the zones that have been known longest have them; the totals cover all zones,
 * past ones included.
 */
import { readdir } from 'node:fs/promises';
import { Gauge, Registry, type RegistryContentType } from 'prom-client';
import type { AuditRule } from '../datasets/policy';
import { BOOT_BOUNDS_MS, LATENCY_BOUNDS_MS, type Latency } from '../metrics';
import { ZONE_STATES } from '../platform/ffi';
import { VERBS } from '../protocol/request';
import { REFUSALS } from '../transport/link';
import { countEach } from './format';
import { ZONE_REASONS, type HealthSnapshot } from './health';
import { platformState, type AdminNode } from './node';

/** Zones with series of their own: some hundred kilobytes of text at most. */
const MOST_ZONE_SERIES = 512;

const REQUESTS = VERBS.flatMap((verb) =>
  ['SUCCESS', 'NOTFOUND', 'FAILURE'].map((outcome) => `${verb} ${outcome}`),
);
const REPAIRS = ['missed creation', 'missed deletion', 'missed state', 'changed identity'] as const;
const LINKS = ['socket listening', 'port connected', 'port waiting'] as const;
/** The rules of delegated datasets that VMs break most. */
const VM_RULES: readonly AuditRule[] = [
  'receive-granted',
  'privileges-unreadable',
  'limit-missing',
  'limit-exceeded',
];
const WRITE_STAGES = ['slowed', 'locking', 'queued', 'writing'] as const;

interface Sample {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** Of a histogram's: what ends its name, after the family's. */
  readonly ending?: string;
}
/** A number: the one sample, without a label. */
type Samples = number | readonly Sample[];
/** Every family, in the order of the text. */
const HELP = {
  mdatad_healthy: '1 while the agent and all its zones are healthy, 0 when degraded or failed.',
  mdatad_zones_unhealthy:
    'Zones that are not healthy, by reason; a zone counts under each of its reasons.',
  mdatad_requests_total: 'Requests answered.',
  mdatad_request_duration_seconds: 'From the last byte of a request to the write of its reply.',
  mdatad_bytes_total: 'Bytes on zone sockets and serial ports.',
  mdatad_refusals_total: 'Refusals: what met a limit or a rule.',
  mdatad_connections_total: 'Connections accepted on zone sockets or made to serial ports.',
  mdatad_connections: 'Open connections.',
  mdatad_watches_waiting: 'WATCH requests that wait for a change.',
  mdatad_faults_total: 'Requests that failed because of a bug in the agent.',
  mdatad_writes_total: 'PUT and DELETE requests, by outcome.',
  mdatad_writes_in_progress: 'VMs with writes in progress, by stage.',
  mdatad_config_locks_held: 'VM configuration locks held until vminfod shows the change.',
  mdatad_writes_unconfirmed_total: 'Writes that vminfod did not show within 2 seconds.',
  mdatad_writes_restored_total:
    'Changes of metadata that were made again after a stale copy had undone them.',
  mdatad_zones: 'Zones, by state.',
  mdatad_links: 'Zone sockets and serial ports, by state.',
  mdatad_zone_events_total: 'Zone state events received.',
  mdatad_zone_event_lag_seconds: 'Delay between the last zone event and its delivery to the agent.',
  mdatad_reconcile_repairs_total:
    'Differences that the reconcile repaired: events that were missed.',
  mdatad_reconnects_total: 'Reconnects to serial ports.',
  mdatad_port_disconnects_total: 'Serial port connections that ended.',
  mdatad_port_held_total: 'Times that another program held the serial port of a VM.',
  mdatad_port_dropped_bytes_total: 'Bytes on serial ports that were not part of a request.',
  mdatad_boot_to_answer_seconds:
    "Time from an HVM zone running to its guest's first answered request.",
  mdatad_zone_requests_total: 'Requests, by zone.',
  mdatad_zone_errors_total: 'Requests answered FAILURE, by zone.',
  mdatad_zone_refusals_total: 'Refusals, by zone.',
  mdatad_vminfod_following: '1 while the event stream of vminfod is open, else 0.',
  mdatad_vminfod_reconnects_total: 'Reconnects to the event stream of vminfod.',
  mdatad_vms: 'VM objects known from vminfod.',
  mdatad_requests_waiting_for_vm: 'Requests waiting for a VM object.',
  mdatad_datasets: 'VMs with delegated datasets, by verdict of the last audit.',
  mdatad_dataset_rules_broken: 'VMs that break a rule of the "safe" policy, by rule.',
  mdatad_dataset_warnings_total: 'Warnings about unsafe datasets, one for each change.',
  mdatad_build_info: 'Always 1; the labels are the versions.',
  mdatad_event_loop_delay_seconds:
    'How long the event loop delayed a request, in the last ten seconds.',
  mdatad_event_loop_cpu_max_seconds:
    'CPU time of the iteration of the event loop that took most of it, in the last ten seconds.',
  mdatad_log_records_suppressed_total: 'Log records suppressed by the rate limit of their zone.',
  mdatad_log_records_lost_total: 'Log records that could not be written.',
  mdatad_memory_ceiling_bytes: 'Memory use above which the agent raises an alarm.',
  process_resident_memory_bytes: 'Resident memory size.',
  process_start_time_seconds: 'Start time of the process since the Unix epoch.',
  process_open_fds: 'Open file descriptors.',
  process_cpu_seconds_total: 'User and system CPU time spent.',
} as const;
type Name = keyof typeof HELP;

/** The families that are neither a counter, whose name ends in `_total`, nor a gauge. */
const TYPES: Readonly<Partial<Record<Name, 'histogram' | 'summary'>>> = {
  mdatad_request_duration_seconds: 'histogram',
  mdatad_boot_to_answer_seconds: 'histogram',
  mdatad_event_loop_delay_seconds: 'summary',
};

/** The metrics as they are now. @param format of the text */
export async function metricsNow(
  node: AdminNode,
  health: HealthSnapshot,
  format: 'prometheus' | 'openmetrics',
): Promise<Registry<RegistryContentType>> {
  const registry = new Registry<RegistryContentType>();
  if (format === 'openmetrics') {
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  }
  // From the process' own directory, which illumos and Linux both have; reading it takes a descriptor itself.
  const fds = Math.max(0, (await readdir('/proc/self/fd').catch(() => [])).length - 1);
  const values = valuesOf(node, health, fds);
  for (const name of Object.keys(HELP).filter((key): key is Name => key in values)) {
    registry.registerMetric(new ReadMetric(name, values[name]));
  }
  return registry;
}

/** prom-client counts for itself; here the values are those that were counted elsewhere. */
class ReadMetric extends Gauge {
  /** As prom-client's other classes have it: it decides how the family is exported. */
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary';

  constructor(
    name: Name,
    private readonly samples: Samples,
  ) {
    super({ name, help: HELP[name], registers: [] });
    this.type = TYPES[name] ?? (name.endsWith('_total') ? 'counter' : 'gauge');
  }

  override async get(): ReturnType<Gauge['get']> {
    const { samples } = this;
    const family = await super.get();
    const counted = typeof samples === 'number' ? [{ labels: {}, value: samples }] : samples;
    const values = counted.map(({ ending, ...sample }: Sample) => {
      return ending === undefined ? sample : { metricName: family.name + ending, ...sample };
    });
    return { ...family, values };
  }
}

/** @param fds open file descriptors */
function valuesOf(
  node: AdminNode,
  { state, zonesByReason, states, self }: HealthSnapshot,
  fds: number,
): Readonly<Record<Name, Samples>> {
  const { metrics } = node;
  const { ports } = metrics;
  const { loop } = self;
  const status = node.store.status();
  const { inProgress, stored, failed, changed, joined, timedOut } = status.writer;
  const datasets = node.datasets.counts();
  const zones = [...node.zones.all()];
  const zoneStates = countEach(zones.map((zone) => platformState(zone, states)));
  const links = countEach(zones.map(({ link }) => `${link.kind} ${link.link.state}`));
  const stages = countEach(inProgress.map(({ stage }) => stage));
  const { user, system } = process.cpuUsage();
  return {
    mdatad_healthy: state === 'ok' ? 1 : 0,
    mdatad_zones_unhealthy: byName('reason', zonesByReason, Object.keys(ZONE_REASONS)),
    mdatad_requests_total: byName('verb outcome', metrics.requests, REQUESTS),
    mdatad_request_duration_seconds: VERBS.flatMap((verb) =>
      histogram({ verb }, LATENCY_BOUNDS_MS, metrics.latency.get(verb)),
    ),
    mdatad_bytes_total: [
      { labels: { direction: 'received' }, value: metrics.bytesReceived },
      { labels: { direction: 'sent' }, value: metrics.bytesSent },
    ],
    mdatad_refusals_total: byName('reason', metrics.refusals, REFUSALS),
    mdatad_connections_total: metrics.acceptedConnections,
    mdatad_connections: metrics.openConnections,
    mdatad_watches_waiting: metrics.watchesWaiting(),
    mdatad_faults_total: metrics.faults,
    mdatad_writes_total: byName(
      'outcome',
      Object.entries({ stored, failed, changed, joined, timed_out: timedOut }),
    ),
    mdatad_writes_in_progress: byName('stage', stages, WRITE_STAGES),
    mdatad_config_locks_held: status.holds,
    mdatad_writes_unconfirmed_total: status.unconfirmed,
    mdatad_writes_restored_total: status.restored,
    mdatad_zones: byName('state', zoneStates, ZONE_STATES),
    mdatad_links: byName('kind state', links, LINKS),
    mdatad_zone_events_total: metrics.zoneEvents,
    mdatad_zone_event_lag_seconds: metrics.eventLagMs / 1000,
    mdatad_reconcile_repairs_total: byName('repair', metrics.repairs, REPAIRS),
    mdatad_reconnects_total: ports.reconnects,
    mdatad_port_disconnects_total: ports.disconnects,
    mdatad_port_held_total: ports.held,
    mdatad_port_dropped_bytes_total: ports.droppedBytes,
    mdatad_boot_to_answer_seconds: histogram({}, BOOT_BOUNDS_MS, metrics.bootToAnswer),
    mdatad_zone_requests_total: perZone(node, 'requests'),
    mdatad_zone_errors_total: perZone(node, 'failures'),
    mdatad_zone_refusals_total: perZone(node, 'refusals'),
    mdatad_vminfod_following: status.vminfod.state === 'following' ? 1 : 0,
    mdatad_vminfod_reconnects_total: status.vminfod.reconnects,
    mdatad_vms: status.vms,
    mdatad_requests_waiting_for_vm: status.waiting,
    mdatad_datasets: byName('verdict', Object.entries(datasets.verdicts)),
    mdatad_dataset_rules_broken: byName('rule', Object.entries(datasets.rules), VM_RULES),
    mdatad_dataset_warnings_total: datasets.warnings,
    mdatad_build_info: [{ labels: { version: node.version, node: process.version }, value: 1 }],
    mdatad_event_loop_delay_seconds: [
      { labels: { quantile: '0.5' }, value: loop.p50Ms / 1000 },
      { labels: { quantile: '0.99' }, value: loop.p99Ms / 1000 },
      { labels: { quantile: '1' }, value: loop.maxMs / 1000 },
    ],
    mdatad_event_loop_cpu_max_seconds: loop.maxCpuMs / 1000,
    mdatad_log_records_suppressed_total: metrics.recordsSuppressed,
    mdatad_log_records_lost_total: node.lostRecords(),
    mdatad_memory_ceiling_bytes: self.ceilingBytes,
    process_resident_memory_bytes: self.rssBytes,
    process_start_time_seconds: node.startedAt / 1000,
    process_open_fds: fds,
    process_cpu_seconds_total: (user + system) / 1e6,
  };
}

/** Zones without a request have no series; where no zone has one, a sample without a zone stands in. */
function perZone(node: AdminNode, what: 'requests' | 'failures' | 'refusals'): Samples {
  const samples = [...node.zones.all()].flatMap((zone): Sample[] => {
    const stats = node.requestLogOf(zone)?.stats;
    return stats === undefined || stats.requests + stats.refusals === 0
      ? []
      : [{ labels: { zonename: zone.zonename }, value: stats[what] }];
  });
  return samples.length === 0 ? 0 : samples.slice(0, MOST_ZONE_SERIES);
}

/** A histogram that was counted elsewhere, in seconds. */
function histogram(
  labels: Sample['labels'],
  boundsMs: readonly number[],
  { buckets, sumMs, count }: Latency = { buckets: [], sumMs: 0, count: 0 },
): Sample[] {
  let below = 0;
  const ending = '_bucket';
  return [
    ...boundsMs.map((bound, i) => {
      below += buckets[i] ?? 0;
      return { ending, labels: { ...labels, le: bound / 1000 }, value: below };
    }),
    { ending, labels: { ...labels, le: '+Inf' }, value: count },
    { ending: '_sum', labels, value: sumMs / 1000 },
    { ending: '_count', labels, value: count },
  ];
}

/**
 * @param labels one name, or two with a blank between them; `counts` has their values in the same form
 * @param known counted as 0 where there is none, so that their series do not come and go
 */
function byName(
  labels: string,
  counts: Iterable<readonly [string, number]>,
  known: readonly string[] = [],
): Sample[] {
  const names = labels.split(' ');
  const all = new Map([...known.map((name) => [name, 0] as const), ...counts]);
  return [...all].map(([values, value]) => {
    const parts = names.length === 1 ? [values] : values.split(' ');
    return { labels: Object.fromEntries(names.map((name, i) => [name, parts[i] ?? ''])), value };
  });
}
