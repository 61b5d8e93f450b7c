/*
 * One zone as operators see it: a row of `mdatactl zones`, and everything about it for `mdatactl zone`.
 *
 * Made from the agent's own state and the last evaluation of health; asks neither the platform nor vminfod. No metadata value is in it:
 * the last request shows its key, and the records are those of the log.
 */
import type { StateRecord } from '../lib/fsm';
import { SerialLink } from '../transport/serial-link';
import { ZoneSocket } from '../transport/socket-server';
import { aliasOf } from '../metadata/vm-data';
import type { MetadataReport } from '../vm/store';
import type { Zone } from '../zones/zone';
import { messageOf } from '../lib/errors';
import type { AdminNode } from './node';
import { platformState } from './platform-states';
import { stateOf, type HealthSnapshot } from './health';

/** A record of a zone's log that an operator may want to see. */
export interface Warning {
  /** As in the log: ISO 8601. */
  readonly time: string;
  readonly text: string;
}

/** A zone in `mdatactl zones`: what fits on a line. */
export type ZoneRow = ReturnType<typeof zoneRow>;
/** All that the agent knows of a zone, for `mdatactl zone`. */
export type ZoneReport = ReturnType<typeof zoneReport> & {
  /** What it has used of its limits; not in the report of all zones. */
  readonly metadata?: MetadataReport | null;
};

/** In the place of what is not known while the zone's file system does not answer. */
const NOT_ANSWERING = 'not answering';

export function zoneRow(node: AdminNode, zone: Zone, health: HealthSnapshot) {
  const problems = health.zones.get(zone.zonename) ?? [];
  const { link } = zone.link;
  const stats = node.requestLogOf(zone)?.stats;
  const { directory } = zone;
  return {
    zonename: zone.zonename,
    alias: aliasOf(node.store.table.vm(zone.zonename)),
    brand: zone.facts.brand,
    /** The platform's word, as zoneadm list has it. */
    state: platformState(zone, health.states),
    health: stateOf(problems),
    /** Why it is not healthy, by the names of health.ts. */
    reasons: problems.map(({ reason }) => reason),
    kind: zone.link.kind,
    link: zone.answers || zone.link.kind === 'socket' ? link.state : NOT_ANSWERING,
    connections: link.connections,
    /** The state of the directory's mount; null for an HVM zone. */
    mount: directory === null || zone.answers ? (directory?.state ?? null) : NOT_ANSWERING,
    requests: stats?.requests ?? 0,
    errors: stats?.failures ?? 0,
    refusals: stats?.refusals ?? 0,
    bytesReceived: stats?.bytesReceived ?? 0,
    bytesSent: stats?.bytesSent ?? 0,
    /** All of its requests together, from their last byte to their reply, ms. */
    elapsedMs: stats?.elapsedMs ?? 0,
    /** Of an HVM zone's port; null for a socket. */
    reconnects: link instanceof SerialLink ? link.counts.reconnects : null,
    lastRequest: stats?.lastRequest ?? null,
  };
}

export function zoneReport(node: AdminNode, zone: Zone, health: HealthSnapshot) {
  const { link } = zone.link;
  const { zonename, facts } = zone;
  const write = node.store.status().writer.inProgress.find((w) => w.zonename === zonename);
  const stats = node.requestLogOf(zone)?.stats;
  const history: readonly StateRecord<string>[] = zone.history();
  const linkHistory: readonly StateRecord<string>[] =
    link instanceof SerialLink || link instanceof ZoneSocket ? link.history() : [];
  return {
    ...zoneRow(node, zone, health),
    zonepath: facts.zonepath,
    path: link.path,
    history,
    linkHistory,
    port: link instanceof SerialLink ? link.counts : null,
    tally: stats ?? null,
    /** What vminfod knows of it, null when nothing. */
    vm: node.store.facts(zonename) ?? null,
    write:
      write === undefined
        ? null
        : { stage: write.stage, waiting: write.waiting, oldestMs: Math.round(write.oldestMs) },
    /** What is wrong with it, the reasons of its health. */
    problems: health.zones.get(zonename) ?? [],
    /** A recent warning of its log; not part of its health. */
    warning: lastWarning(zone),
    records: zone.log.recent(),
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
