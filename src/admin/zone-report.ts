/*
 * One zone as operators see it: a row of `mdatactl zones`, and everything about it for `mdatactl zone`.
 *
 * Made from the agent's own state and the last evaluation of health; asks neither the platform nor vminfod. No metadata value is in it:
 * the last request shows its key, and the records are those of the log.
 */
import type { StateRecord } from '../lib/fsm';
import type { LastRequest, RequestStats } from '../request-log';
import type { KeptRecord } from '../log';
import { SerialLink } from '../transport/serial-link';
import type { SerialCounts } from '../transport/serial-stats';
import { ZoneSocket } from '../transport/socket-server';
import { aliasOf, type VmFacts } from '../metadata/vm-data';
import type { MetadataReport } from '../vm/store';
import type { ZoneFacts } from '../platform/zone-facts';
import type { Zone } from '../zones/zone';
import { messageOf } from '../lib/errors';
import type { AdminNode } from './node';
import { platformState } from './platform-states';
import { stateOf, type HealthSnapshot, type HealthState, type ZoneProblem } from './health';
import { hintForRecord, hintsFor, type Hint } from './hints';

export interface ZoneRow {
  readonly zonename: string;
  readonly alias: string | null;
  readonly brand: string;
  /** The platform's word, as zoneadm list has it. */
  readonly state: ZoneFacts['state'];
  readonly health: HealthState;
  /** Why it is not healthy, by the names of health.ts. */
  readonly reasons: readonly string[];
  readonly kind: 'socket' | 'port';
  readonly link: string;
  readonly connections: number;
  /** The state of the directory's mount; null for an HVM zone. */
  readonly mount: string | null;
  readonly requests: number;
  readonly errors: number;
  readonly refusals: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** All of its requests together, from their last byte to their reply, ms. */
  readonly elapsedMs: number;
  /** Of an HVM zone's port; null for a socket. */
  readonly reconnects: number | null;
  readonly lastRequest: LastRequest | null;
}

/** A record of a zone's log that an operator may want to see. */
export interface Warning {
  /** As in the log: ISO 8601. */
  readonly time: string;
  readonly text: string;
}

export interface ZoneReport extends ZoneRow {
  readonly zonepath: string;
  readonly path: string;
  readonly history: readonly StateRecord<string>[];
  readonly linkHistory: readonly StateRecord<string>[];
  readonly port: SerialCounts | null;
  readonly tally: RequestStats | null;
  /** What the guest may have meant by `sdc:` keys that it asked for lately and that do not exist. */
  readonly hints: readonly Hint[];
  /** What vminfod knows of it, null when nothing. */
  readonly vm: VmFacts | null;
  readonly write: {
    readonly stage: string;
    readonly waiting: number;
    readonly oldestMs: number;
  } | null;
  /** What it has used of its limits; not in the report of all zones. */
  readonly metadata?: MetadataReport | null;
  /** What is wrong with it, the reasons of its health. */
  readonly problems: readonly ZoneProblem[];
  /** A recent warning of its log; not part of its health. */
  readonly warning: Warning | null;
  readonly records: readonly KeptRecord[];
}

/** In the place of what is not known while the zone's file system does not answer. */
const NOT_ANSWERING = 'not answering';

/** A zone in `mdatactl zones`: what fits on a line. */
export function zoneRow(node: AdminNode, zone: Zone, health: HealthSnapshot): ZoneRow {
  const problems = health.zones.get(zone.zonename) ?? [];
  const { link } = zone.link;
  const stats = node.requestLogOf(zone)?.stats;
  return {
    zonename: zone.zonename,
    alias: aliasOf(node.store.table.vm(zone.zonename)),
    brand: zone.facts.brand,
    state: platformState(zone, health.states),
    health: stateOf(problems),
    reasons: problems.map(({ reason }) => reason),
    kind: zone.link.kind,
    link: zone.answers || zone.link.kind === 'socket' ? link.state : NOT_ANSWERING,
    connections: link.connections,
    mount:
      zone.directory === null || zone.answers ? (zone.directory?.state ?? null) : NOT_ANSWERING,
    requests: stats?.requests ?? 0,
    errors: stats?.failures ?? 0,
    refusals: stats?.refusals ?? 0,
    bytesReceived: stats?.bytesReceived ?? 0,
    bytesSent: stats?.bytesSent ?? 0,
    elapsedMs: stats?.elapsedMs ?? 0,
    reconnects: link instanceof SerialLink ? link.counts.reconnects : null,
    lastRequest: stats?.lastRequest ?? null,
  };
}

/** All that the agent knows of a zone, for `mdatactl zone`. No metadata value is in it. */
export function zoneReport(node: AdminNode, zone: Zone, health: HealthSnapshot): ZoneReport {
  const { link } = zone.link;
  const { zonename, facts } = zone;
  const writes = node.store.status().writer.inProgress;
  const write = writes.find((w) => w.zonename === zonename);
  const stats = node.requestLogOf(zone)?.stats;
  const hasHistory = link instanceof SerialLink || link instanceof ZoneSocket;
  return {
    ...zoneRow(node, zone, health),
    zonepath: facts.zonepath,
    path: link.path,
    history: zone.history(),
    linkHistory: hasHistory ? link.history() : [],
    port: link instanceof SerialLink ? link.counts : null,
    tally: stats ?? null,
    hints: hintsFor(stats?.missing ?? []),
    vm: node.store.facts(zonename) ?? null,
    write:
      write === undefined
        ? null
        : { stage: write.stage, waiting: write.waiting, oldestMs: Math.round(write.oldestMs) },
    problems: health.zones.get(zonename) ?? [],
    warning: lastWarning(zone),
    records: zone.log.recent().map((record) => {
      const hint = hintForRecord(record.fields);
      return hint === null ? record : { ...record, fields: { ...record.fields, hint } };
    }),
  };
}

/** A warning in a zone's log is news for this long. */
const RECENT_MS = 5 * 60_000;

/** The last warning of the zone's log, where it is news. */
export function lastWarning(zone: Zone): Warning | null {
  const last = zone.log.recent().findLast(({ level }) => level === 'warn' || level === 'error');
  if (last === undefined || Date.now() - Date.parse(last.time) >= RECENT_MS) {
    return null;
  }
  const { err } = last.fields;
  return {
    time: last.time,
    text: err === undefined ? last.msg : `${last.msg} (${messageOf(err)})`,
  };
}
