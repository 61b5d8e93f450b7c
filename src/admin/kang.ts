/*
 * The agent as kang sees it, Triton's convention for looking into services: who we are, some figures,
 * and our objects by type and id. Ids that name objects of other services too (`zone`) are the uuids
 * that those use.
 */
import { hostname } from 'node:os';
import { CooperativeYield } from '../lib/scheduler';
import type { AdminNode } from './node';
import type { HealthSnapshot } from './health';
import type { Status } from './status';
import { zoneReport } from './zone-report';

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

/** The objects stand under their types' names, as kang's own servers have them. */
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
