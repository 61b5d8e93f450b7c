/*
 * The metrics, as Prometheus reads them.
 *
 * Counting is done elsewhere, in plain numbers (figures, journal, store): a request costs nothing here.
 * Each metric takes its values when it is read. Series of single zones are bounded: the zones that have
 * been known longest have them. What the others did is in the totals, which no zone takes along when it goes.
 */
import { BOOT_BOUNDS_MS, LATENCY_BOUNDS_MS } from '../metrics';
import type { RequestStats } from '../request-log';
import type { Zone } from '../zones/zone';
import { MetricFamilies, type Series } from './metric-families';
import type { AdminNode } from './node';
import type { SelfHealth } from './watchdog';

/** Zones with series of their own: some hundred kilobytes of text at most. */
const MOST_ZONE_SERIES = 512;

const WRITE_STAGES = ['slowed', 'locking', 'queued', 'writing'] as const;
const ZONE_STATES = ['halted', 'ready', 'running'] as const;

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
  /** The same as prom-client's objects. */
  json(): Promise<unknown>;
}

/** All metrics of the agent. Nothing is counted here: values are looked up when somebody reads them. */
export function makeMetrics(node: AdminNode, self: () => SelfHealth): Metrics {
  const catalogue = new MetricFamilies();
  addRequests(catalogue, node);
  addWrites(catalogue, node);
  addZones(catalogue, node);
  addPorts(catalogue, node);
  addEachZone(catalogue, node);
  addVminfod(catalogue, node);
  addDatasets(catalogue, node);
  addProcess(catalogue, node, self);
  const { registry } = catalogue;
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    json: () => registry.getMetricsAsJSON(),
  };
}

function addRequests(to: MetricFamilies, { figures }: AdminNode): void {
  to.counter('mdatad_requests_total', 'Requests answered.', ['verb', 'outcome'], () =>
    byTwoNames('verb', 'outcome', figures.requests),
  );
  to.histogram(
    'mdatad_request_duration_seconds',
    'From the last byte of a request to the write of its reply.',
    ['verb'],
    LATENCY_BOUNDS_MS.map((ms) => ms / 1000),
    () =>
      [...figures.latency].map(([verb, { buckets, sumMs, count }]) => {
        return { labels: { verb }, counts: buckets, sum: sumMs / 1000, count };
      }),
  );
  to.counter('mdatad_bytes_total', 'Octets on the links.', ['direction'], () => [
    [{ direction: 'received' }, figures.bytesReceived],
    [{ direction: 'sent' }, figures.bytesSent],
  ]);
  to.counter('mdatad_refusals_total', 'What met a limit or a rule, by reason.', ['reason'], () =>
    byName('reason', figures.refusals),
  );
  const accepted = 'Connections of guests that were accepted or made.';
  to.counter('mdatad_connections_total', accepted, [], () => one(figures.acceptedConnections));
  to.gauge('mdatad_connections', 'Open connections.', [], () => one(figures.openConnections));
  const faults = 'Requests that met a fault of the agent.';
  to.counter('mdatad_faults_total', faults, [], () => one(figures.faults));
}

function addWrites(to: MetricFamilies, { store }: AdminNode): void {
  to.counter('mdatad_writes_total', 'Changes of metadata, by their end.', ['outcome'], () => {
    const { stored, failed, joined, timedOut } = store.status().writer;
    return byName('outcome', Object.entries({ stored, failed, joined, timed_out: timedOut }));
  });
  to.gauge('mdatad_writes_in_progress', 'VMs with changes under way, by stage.', ['stage'], () => {
    const stages = store.status().writer.inProgress.map(({ stage }) => stage);
    return byName('stage', countEach(stages, WRITE_STAGES));
  });
  const held = 'Locks of VM configurations held until vminfod shows the change.';
  to.gauge('mdatad_config_locks_held', held, [], () => one(store.status().holds));
  const unconfirmed = 'Writes that vminfod did not show in time.';
  to.counter('mdatad_writes_unconfirmed_total', unconfirmed, [], () =>
    one(store.status().unconfirmed),
  );
}

function addZones(to: MetricFamilies, node: AdminNode): void {
  const { figures } = node;
  to.gauge('mdatad_zones', 'Zones, by state.', ['state'], () => {
    const states = zonesOf(node).map((zone) => zone.state);
    return byName('state', countEach(states, ZONE_STATES));
  });
  to.gauge('mdatad_links', 'Links, by kind and state.', ['kind', 'state'], () => {
    const links = zonesOf(node).map(({ link }) => `${link.kind} ${link.link.state}`);
    return byTwoNames('kind', 'state', countEach(links, []));
  });
  to.counter('mdatad_zone_events_total', 'Events of zones.', [], () => one(figures.zoneEvents));
  const lag = 'From the last zone event to our hearing of it.';
  to.gauge('mdatad_zone_event_lag_seconds', lag, [], () => one(figures.eventLagMs / 1000));
  const repairs = 'Differences that no event told.';
  to.counter('mdatad_reconcile_repairs_total', repairs, ['repair'], () =>
    byName('repair', figures.repairs),
  );
}

/** The ports of HVM guests. */
function addPorts(to: MetricFamilies, { figures }: AdminNode): void {
  const { ports, bootToAnswer } = figures;
  const again = 'Serial ports connected to again.';
  to.counter('mdatad_reconnects_total', again, [], () => one(ports.reconnects));
  const lost = 'Connections to serial ports that ended.';
  to.counter('mdatad_port_disconnects_total', lost, [], () => one(ports.disconnects));
  const held = 'Times that another program had the serial port of a VM.';
  to.counter('mdatad_port_held_total', held, [], () => one(ports.held));
  const dropped = 'Octets on serial ports that were no request.';
  to.counter('mdatad_port_dropped_bytes_total', dropped, [], () => one(ports.droppedBytes));
  to.histogram(
    'mdatad_boot_to_answer_seconds',
    "From an HVM zone's running to its guest's first answered request.",
    [],
    BOOT_BOUNDS_MS.map((ms) => ms / 1000),
    () => {
      const { buckets, sumMs, count } = bootToAnswer;
      return [{ labels: {}, counts: buckets, sum: sumMs / 1000, count }];
    },
  );
}

function addEachZone(to: MetricFamilies, node: AdminNode): void {
  const each = (name: string, help: string, read: (tally: RequestStats) => number): void => {
    to.counter(name, help, ['zonename'], () => perZone(node, read));
  };
  each('mdatad_zone_requests_total', 'Requests, by zone.', (tally) => tally.requests);
  each('mdatad_zone_errors_total', 'Requests answered FAILURE, by zone.', (t) => t.failures);
  each('mdatad_zone_refusals_total', 'What was turned away, by zone.', (tally) => tally.refusals);
}

function addVminfod(to: MetricFamilies, { store }: AdminNode): void {
  const status = (): ReturnType<typeof store.status> => store.status();
  const following = 'Whether the stream of vminfod is followed.';
  to.gauge('mdatad_vminfod_following', following, [], () =>
    one(status().vminfod.state === 'following' ? 1 : 0),
  );
  to.counter('mdatad_vminfod_reconnects_total', 'Streams of vminfod after the first.', [], () =>
    one(status().vminfod.reconnects),
  );
  to.gauge('mdatad_vms', 'VM objects that vminfod told.', [], () => one(status().vms));
  const waiting = 'Requests that wait for a VM object.';
  to.gauge('mdatad_requests_waiting_for_vm', waiting, [], () => one(status().waiting));
}

function addDatasets(to: MetricFamilies, { datasets }: AdminNode): void {
  const audited = 'VMs with delegated datasets, by the verdict of the last audit.';
  to.gauge('mdatad_datasets', audited, ['verdict'], () =>
    byName('verdict', Object.entries(datasets.counts().verdicts)),
  );
  const broken = 'VMs that break a rule of the policy "safe", by rule.';
  to.gauge('mdatad_dataset_rules_broken', broken, ['rule'], () =>
    byName('rule', Object.entries(datasets.counts().rules)),
  );
  const warnings = 'Warnings of unsafe datasets, one for each change.';
  to.counter('mdatad_dataset_warnings_total', warnings, [], () => one(datasets.counts().warnings));
}

function addProcess(to: MetricFamilies, node: AdminNode, self: () => SelfHealth): void {
  const build = { version: node.version, node: process.version };
  to.gauge('mdatad_build_info', 'Always 1.', Object.keys(build), () => [[build, 1]]);
  to.gauge('mdatad_event_loop_delay_seconds', 'How late the loop was.', ['quantile'], () => {
    const { p50Ms, p99Ms, maxMs } = self().loop;
    return [
      [{ quantile: '0.5' }, p50Ms / 1000],
      [{ quantile: '0.99' }, p99Ms / 1000],
      [{ quantile: '1' }, maxMs / 1000],
    ];
  });
  const leftOut = 'Log records left out because they went over the share of their zone.';
  to.counter('mdatad_log_records_suppressed_total', leftOut, [], () =>
    one(node.figures.recordsLeftOut),
  );
  const lost = 'Log records that could not be written.';
  to.counter('mdatad_log_records_lost_total', lost, [], () => one(node.lostRecords()));
  const ceiling = 'Memory that the agent may take before it is an alarm.';
  to.gauge('mdatad_memory_ceiling_bytes', ceiling, [], () => one(self().ceilingBytes));
  to.gauge('process_resident_memory_bytes', 'Memory that the agent has.', [], () =>
    one(self().rssBytes),
  );
  to.gauge('process_start_time_seconds', 'When the agent started.', [], () =>
    one(node.startedAt / 1000),
  );
  to.counter('process_cpu_seconds_total', 'Processor time, user and system.', [], () => {
    const { user, system } = process.cpuUsage();
    return one((user + system) / 1e6);
  });
}

function zonesOf(node: AdminNode): Zone[] {
  return [...(node.registry()?.all() ?? [])];
}

/** Zones without a request have no series. */
function perZone(node: AdminNode, read: (tally: RequestStats) => number): Series {
  const series: [{ zonename: string }, number][] = [];
  for (const zone of zonesOf(node)) {
    const tally = node.journalOf(zone)?.tally;
    if (tally === undefined || tally.requests + tally.refusals === 0) {
      continue;
    }
    series.push([{ zonename: zone.zonename }, read(tally)]);
    if (series.length === MOST_ZONE_SERIES) {
      break;
    }
  }
  return series;
}

function one(value: number): Series {
  return [[{}, value]];
}

function byName(label: string, counts: Iterable<readonly [string, number]>): Series {
  return [...counts].map(([name, count]) => [{ [label]: name }, count] as const);
}

/** Names of two words, one for each label. */
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

/** @param known counted as 0 where there is none, so that their series do not come and go */
function countEach(names: readonly string[], known: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>(known.map((name) => [name, 0]));
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
