/*
 * `mdatactl doctor`, `preflight` and `compare` for a person: what is broken, with what to do about it, and what differs.
 * Pure.
 */
import type { DoctorReport, ZoneDoctorReport } from '../../src/admin/doctor';
import type { Step, Verdict } from '../../src/admin/doctor-context';
import { countEach, counted } from '../../src/admin/format';
import type { PreflightCheck, PreflightReport } from '../preflight/check';
import type { CompareReport, Difference } from './compare';
import { DOCUMENTED, type AnswerShape } from './compare-differences';
import type { Colour, Screen } from '../screen';
import { paragraph, remedyLine } from './text';

/** As the longest name of a step, and a space. */
const STEP_WIDTH = 17;
const CHECK_WIDTH = 18;
const VERDICT_WIDTH = 6;
const LABEL_WIDTH = 14;
/** More differences are in the JSON. */
const MOST_SHOWN = 20;

const LABELS: Readonly<Record<Verdict, readonly [word: string, colour: Colour]>> = {
  ok: ['ok', 'green'],
  warn: ['WARN', 'yellow'],
  fail: ['FAIL', 'red'],
  skip: ['-', 'dim'],
};

/** @param whole every step, also of healthy zones */
export function showDoctor(report: DoctorReport, whole: boolean, screen: Screen): string[] {
  const { paint } = screen;
  const unhealthy = report.zones.filter(({ verdict }) => verdict !== 'ok');
  const shown = whole ? report.zones : unhealthy;
  const hidden = report.zones.length - shown.length;
  return [
    paint('bold', 'node'),
    ...report.node.flatMap((step) => stepLines(step, screen)),
    ...shown.flatMap((zone) => ['', ...zoneLines(zone, whole, screen)]),
    '',
    ...(hidden > 0
      ? [`${counted(hidden, 'zone')} healthy (mdatactl doctor UUID shows each step)`]
      : []),
    doctorSummary(report, screen),
  ];
}

function zoneLines(zone: ZoneDoctorReport, whole: boolean, screen: Screen): string[] {
  const { zonename, alias, brand, state } = zone;
  const about = [alias, brand, state].filter((word) => word !== null && word !== '').join(', ');
  const steps = whole
    ? zone.steps
    : zone.steps.filter(({ verdict }) => verdict === 'warn' || verdict === 'fail');
  return [
    screen.paint('bold', `zone ${zonename}`) + (about === '' ? '' : `  (${about})`),
    ...steps.flatMap((step) => stepLines(step, screen)),
  ];
}

function stepLines({ step, verdict, finding, remedy }: Step, { paint, width }: Screen): string[] {
  const [word, colour] = LABELS[verdict];
  const name = `  ${step.padEnd(STEP_WIDTH)}`;
  const label = word.padEnd(VERDICT_WIDTH);
  const indent = name.length + label.length;
  const [first = '', ...rest] = paragraph(name + label, finding, indent, width);
  return [
    name + paint(colour, label) + first.slice(indent),
    ...rest,
    ...(remedy === '' ? [] : [remedyLine(remedy, indent)]),
  ];
}

function doctorSummary({ verdict, node, zones }: DoctorReport, { paint }: Screen): string {
  const { fail, warn } = countsOf([...node, ...zones.flatMap(({ steps }) => steps)]);
  switch (verdict) {
    case 'ok':
    case 'skip':
      return paint('green', 'all is well');
    case 'warn':
      return paint('yellow', counted(warn, 'warning'));
    case 'fail':
      return paint('red', `broken: ${counted(fail, 'fault')}${andWarnings(warn)}`);
  }
}

/** One line a check; for what is not well also what was expected. */
export function showPreflight(report: PreflightReport, { paint, width }: Screen): string[] {
  const { checks, elapsed_ms } = report;
  const { fail, warn } = countsOf(checks);
  const tail = `${counted(checks.length, 'check')} in ${(elapsed_ms / 1000).toFixed(1)} s`;
  const summary =
    fail > 0
      ? paint('red', `do not install: ${fail} failed${andWarnings(warn)}; ${tail}`)
      : warn > 0
        ? paint('yellow', `${counted(warn, 'warning')}, nothing failed; ${tail}`)
        : paint('green', `all is well; ${tail}`);
  return [...checks.flatMap((check) => checkLines(check, { paint, width })), '', summary];
}

function checkLines(
  { name, verdict, expected, seen, remedy }: PreflightCheck,
  { paint, width }: Pick<Screen, 'paint' | 'width'>,
): string[] {
  const [word, colour] = LABELS[verdict];
  const label = word.padEnd(VERDICT_WIDTH) + name.padEnd(CHECK_WIDTH);
  const [first = '', ...more] = paragraph(label, seen, label.length, width);
  return [
    paint(colour, word) + first.slice(word.length),
    ...more,
    ...(verdict === 'ok'
      ? []
      : [
          ...paragraph('', `expected: ${expected}`, VERDICT_WIDTH, width),
          remedyLine(remedy, VERDICT_WIDTH),
        ]),
  ];
}

function countsOf(
  steps: readonly { readonly verdict: Verdict }[],
): Record<'fail' | 'warn', number> {
  const count = (wanted: Verdict): number => steps.filter((s) => s.verdict === wanted).length;
  return { fail: count('fail'), warn: count('warn') };
}

function andWarnings(warnings: number): string {
  return warnings === 0 ? '' : `, ${counted(warnings, 'warning')}`;
}

/** Counts, then each difference by key and lengths. */
export function showCompare(report: CompareReport, { paint, width }: Screen): string[] {
  const { zones, unanswered, questions, equal, documented, undocumented, elapsed_ms } = report;
  const row = (label: string, text: string): string[] => {
    return paragraph(label, text, LABEL_WIDTH, width);
  };
  return [
    ...row('zones', `${counted(zones, 'running OS zone')} asked`),
    ...row('questions', String(questions)),
    ...row('equal', String(equal)),
    ...row('documented', counted(documented.length, 'difference')),
    ...documentedLines(documented, width),
    ...row('undocumented', counted(undocumented.length, 'difference')),
    ...undocumented.slice(0, MOST_SHOWN).flatMap((difference) => differenceLines(difference)),
    ...moreThan(undocumented.length),
    ...(unanswered.length === 0 ? [] : row('no answer', counted(unanswered.length, 'zone'))),
    ...unanswered.slice(0, MOST_SHOWN).map(({ zonename, reason }) => `  ${zonename}  ${reason}`),
    ...moreThan(unanswered.length),
    ...row('elapsed', `${(elapsed_ms / 1000).toFixed(1)} s`),
    '',
    undocumented.length > 0
      ? paint('red', 'guests would get other answers: do not install, and report the lines above')
      : paint('green', 'guests would get the same answers'),
  ];
}

function documentedLines(documented: readonly Difference[], width: number): string[] {
  const counts = countEach(documented.flatMap(({ id }) => id ?? []));
  return [...counts].flatMap(([id, count]) => {
    const label = `  ${id}`.padEnd(LABEL_WIDTH);
    return paragraph(`${label}  `, `${count}  ${DOCUMENTED[id]}`, LABEL_WIDTH + 4, width);
  });
}

function differenceLines({ zonename, key, theirs, ours }: Difference): string[] {
  return [`  ${zonename}  ${key}`, `    theirs ${textOf(theirs)}, ours ${textOf(ours)}`];
}

function textOf(shape: AnswerShape | null): string {
  if (shape === null) {
    return 'not asked';
  }
  return shape.length === null ? shape.kind : `${shape.kind}, ${counted(shape.length, 'byte')}`;
}

function moreThan(count: number): string[] {
  return count > MOST_SHOWN ? [`  and ${count - MOST_SHOWN} more: --json lists them all`] : [];
}
