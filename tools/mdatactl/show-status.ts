/* `mdatactl status` for a person: the agent in one screen. Pure. */
import type { Status } from '../../src/admin/status';
import { counted, inBytes, inShort, inWords, latency } from '../../src/admin/format';
import type { Colour, Screen } from '../screen';
import { paragraph, remedyLine } from './text';

const INDENT = 13;

/** `mdatactl status`, for a person. */
export function showStatus(status: Status, screen: Screen): string[] {
  const { paint, width } = screen;
  const line = (label: string, text: string, colour?: Colour): string[] =>
    paragraph(label, text, INDENT, width).map((each) => (colour ? paint(colour, each) : each));
  const { sockets, ports, writes, vminfod, log, loop, memory, health, datasets } = status;
  return [
    paint('bold', `mdatad ${status.version}`) +
      `  ${status.phase}, up ${inShort(status.uptimeMs)}, pid ${status.pid}, root ${status.root}`,
    ...line('health', health.words, health.well ? 'green' : 'red'),
    ...line('zones', zonesLine(status)),
    ...line('sockets', ofAll(sockets.listening, sockets.total, 'listening'), odd(sockets)),
    ...line(
      'serial links',
      ofAll(ports.connected, ports.total, 'connected') +
        (ports.waiting > 0 ? `, ${ports.waiting} waiting for their port` : ''),
      ports.waiting > 0 ? 'yellow' : undefined,
    ),
    ...line('requests', requestsLine(status)),
    ...line('writes', writesLine(status), writes.timedOut > 0 ? 'yellow' : undefined),
    ...writes.inProgress.flatMap(({ zonename, stage, waiting, committing, oldestMs }) =>
      line('', `${zonename} ${stage} for ${inShort(oldestMs)}, ${waiting + committing} waiting`),
    ),
    ...line('vminfod', vminfod.words, colourOf(vminfod.verdict)),
    ...(vminfod.remedy === '' ? [] : [remedyLine(vminfod.remedy, INDENT)]),
    ...line('events', `${eventsLine(status)}; ${repairsLine(status)}`),
    ...line(
      'in progress',
      status.inProgress
        .map(({ what, pending, waiting }) => `${what}: ${pending} under way, ${waiting} waiting`)
        .join('; ') || 'nothing',
    ),
    ...line(
      'memory',
      `${inBytes(memory.rssBytes)}, ceiling ${inBytes(memory.ceilingBytes)}; event loop late by ${Math.round(loop.maxMs)} ms at most`,
      status.alarms.length > 0 ? 'red' : undefined,
    ),
    ...line('datasets', datasetsLine(status), datasets.verdicts.unsafe > 0 ? 'yellow' : undefined),
    ...line('limits hit', namedCounts(status.limitsHit) || 'none'),
    ...line(
      'log',
      `level ${log.level}, ${log.lostRecords === 0 ? 'nothing lost' : `${counted(log.lostRecords, 'record')} lost`}, ${counted(log.followers, 'follower')}`,
      log.lostRecords > 0 ? 'yellow' : undefined,
    ),
    ...(status.faults > 0
      ? line('faults', `${counted(status.faults, 'request')} met a fault of the agent`, 'red')
      : []),
    ...troubleLines(status, screen),
  ];
}

function zonesLine({ zones }: Status): string {
  if (zones.total === 0) {
    return 'none';
  }
  return `${zones.total}: ${namedCounts(zones.byState)} (${namedCounts(zones.byBrand)})`;
}

function requestsLine({ requests }: Status): string {
  const { perSecond, p50Ms, p99Ms, total, failures, openConnections, waitingForVm } = requests;
  const speed =
    perSecond === 0
      ? 'none in the last minute'
      : `${perSecond}/s, p50 ${latency(p50Ms)}, p99 ${latency(p99Ms)} in the last minute`;
  const waiting = waitingForVm > 0 ? `, ${waitingForVm} waiting for VM data` : '';
  return `${speed}; ${total} in all, ${failures} failed; ${counted(openConnections, 'connection')} open${waiting}`;
}

function writesLine({ writes }: Status): string {
  const { inProgress, stored, failed, timedOut, locksHeld, unconfirmed, restored } = writes;
  const pending = inProgress.length === 0 ? 'none' : counted(inProgress.length, 'VM');
  const odd = [
    timedOut > 0 ? `, ${timedOut} timed out` : '',
    unconfirmed > 0 ? `, ${unconfirmed} not confirmed by vminfod` : '',
    restored > 0 ? `, ${restored} undone from a stale copy and made again` : '',
    locksHeld > 0 ? `, ${counted(locksHeld, 'lock')} held` : '',
  ];
  return `${pending} under way; ${stored} stored, ${failed} failed${odd.join('')}`;
}

function eventsLine({ events }: Status): string {
  return events.total === 0
    ? 'none yet'
    : `${events.total}, the last one heard after ${inWords(events.lagMs)}`;
}

function repairsLine({ repairs }: Status): string {
  const text = namedCounts(repairs);
  return text === '' ? 'reconcile found nothing to repair' : `reconcile repaired ${text}`;
}

function datasetsLine({ datasets }: Status): string {
  const { enabled, verdicts, rules } = datasets;
  if (!enabled) {
    return 'the policy "safe" is switched off';
  }
  const { safe, unsafe, unknown, exempt } = verdicts;
  if (safe + unsafe + unknown + exempt === 0) {
    return 'none delegated';
  }
  const why = unsafe > 0 ? ` (${namedCounts(rules)}; mdatactl datasets tells what to do)` : '';
  const unread = unknown > 0 ? `${unknown} of unknown usage, ` : '';
  return `${safe} safe, ${unsafe} unsafe, ${unread}${exempt} exempt${why}`;
}

function troubleLines({ troubles, troublesInAll }: Status, { paint, width }: Screen): string[] {
  if (troubles.length === 0) {
    return [];
  }
  const more = troublesInAll - troubles.length;
  return [
    '',
    paint('bold', `troubles (${troublesInAll})`),
    ...troubles.flatMap(({ zonename, what, remedy }) => [
      ...paragraph('', paint('yellow', `${zonename} ${what}`), 2, width),
      remedyLine(remedy, 4),
    ]),
    ...(more > 0 ? [`  and ${more} more: mdatactl doctor`] : []),
  ];
}

function ofAll(some: number, all: number, what: string): string {
  return all === 0 ? 'none' : `${some} of ${all} ${what}`;
}

function odd({ listening, total }: Status['sockets']): Colour | undefined {
  return listening === total ? undefined : 'red';
}

function colourOf(verdict: Status['vminfod']['verdict']): Colour | undefined {
  switch (verdict) {
    case 'ok':
      return undefined;
    case 'warn':
      return 'yellow';
    case 'fail':
      return 'red';
  }
}

function namedCounts(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');
}
