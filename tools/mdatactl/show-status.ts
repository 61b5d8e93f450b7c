/* `mdatactl status` for a person: the agent in one screen. Pure. */
import type { HealthState } from '../../src/admin/health';
import type { Status } from '../../src/admin/status';
import { counted, inBytes, inWords } from '../../src/admin/format';
import type { Colour, Screen } from '../screen';
import { inShort, latency, paragraph, remedyLine } from './text';

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
    ...line('health', health.summary, healthColour(health.state)),
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
        .map(({ what, pending, waiting }) => `${what}: ${pending} in progress, ${waiting} waiting`)
        .join('; ') || 'nothing',
    ),
    ...line(
      'memory',
      `${inBytes(memory.rssBytes)}, ceiling ${inBytes(memory.ceilingBytes)}; event loop late by ${Math.round(loop.maxMs)} ms at most`,
      memory.rssBytes > memory.ceilingBytes ? 'red' : undefined,
    ),
    ...line('datasets', datasetsLine(status), datasets.verdicts.unsafe > 0 ? 'yellow' : undefined),
    ...line('limits hit', namedCounts(status.limitsHit) || 'none'),
    ...line(
      'log',
      `level ${log.level}, ${log.lostRecords === 0 ? 'nothing lost' : `${counted(log.lostRecords, 'record')} lost`}, ${counted(log.followers, 'follower')}`,
      log.lostRecords > 0 ? 'yellow' : undefined,
    ),
    ...(status.faults > 0
      ? line('faults', `${counted(status.faults, 'request')} met a bug of the agent`, 'red')
      : []),
    ...problemLines(status, screen),
    ...warningLines(status, screen),
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
  const { waitingWatches } = requests;
  const speed =
    perSecond === 0
      ? 'none in the last minute'
      : `${perSecond}/s, p50 ${latency(p50Ms)}, p99 ${latency(p99Ms)} in the last minute`;
  const waiting = waitingForVm > 0 ? `, ${waitingForVm} waiting for VM data` : '';
  const watches =
    waitingWatches > 0 ? `, ${counted(waitingWatches, 'watch', 'watches')} waiting` : '';
  return `${speed}; ${total} in all, ${failures} failed; ${counted(openConnections, 'connection')} open${watches}${waiting}`;
}

function writesLine({ writes }: Status): string {
  const { inProgress, stored, failed, changed, timedOut, locksHeld, unconfirmed, restored } =
    writes;
  const pending = inProgress.length === 0 ? 'none' : counted(inProgress.length, 'VM');
  const odd = [
    changed > 0 ? `, ${changed} refused as the key had changed` : '',
    timedOut > 0 ? `, ${timedOut} timed out` : '',
    unconfirmed > 0 ? `, ${unconfirmed} not confirmed by vminfod` : '',
    restored > 0 ? `, ${restored} undone from a stale copy and made again` : '',
    locksHeld > 0 ? `, ${counted(locksHeld, 'lock')} held` : '',
  ];
  return `${pending} in progress; ${stored} stored, ${failed} failed${odd.join('')}`;
}

function eventsLine({ events }: Status): string {
  return events.total === 0
    ? 'none yet'
    : `${events.total}, the last one received after ${inWords(events.lagMs)}`;
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
  const why = unsafe > 0 ? ` (${namedCounts(rules)}; mdatactl datasets says what to do)` : '';
  const unread = unknown > 0 ? `${unknown} of unknown usage, ` : '';
  return `${safe} safe, ${unsafe} unsafe, ${unread}${exempt} exempt${why}`;
}

function problemLines({ health }: Status, { paint, width }: Screen): string[] {
  const { problems, problemsInAll } = health;
  if (problems.length === 0) {
    return [];
  }
  const more = problemsInAll - problems.length;
  return [
    '',
    paint('bold', `problems (${problemsInAll})`),
    ...problems.flatMap(({ zonename, state, text, remedy }) => {
      const colour = healthColour(state);
      return [
        ...paragraph('', `${zonename ?? 'node'} ${state}: ${text}`, 2, width).map((each) =>
          paint(colour, each),
        ),
        remedyLine(remedy, 4),
      ];
    }),
    ...(more > 0 ? [`  and ${more} more: mdatactl zones --unhealthy`] : []),
  ];
}

function warningLines({ warnings, warningsInAll }: Status, { paint, width }: Screen): string[] {
  if (warnings.length === 0) {
    return [];
  }
  const more = warningsInAll - warnings.length;
  return [
    '',
    paint('bold', `recent warnings in the log (${warningsInAll} zones)`),
    ...warnings.flatMap(({ zonename, time, text }) =>
      paragraph('', `${time} ${zonename} ${text}`, 2, width),
    ),
    ...(more > 0 ? [`  and of ${more} more zones: mdatactl tail`] : []),
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
    case 'fail':
      return 'red';
  }
}

/** How each state of health is painted, in all views. */
export function healthColour(state: HealthState): Colour {
  return state === 'ok' ? 'green' : state === 'degraded' ? 'yellow' : 'red';
}

function namedCounts(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');
}
