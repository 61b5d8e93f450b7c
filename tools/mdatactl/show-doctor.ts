/* `mdatactl doctor` for a person: where the chain breaks first, then what is healthy. Pure. */
import type { DoctorReport, Step, Verdict, ZoneDoctorReport } from '../../src/admin/doctor-context';
import { counted } from '../../src/admin/format';
import type { Colour, Screen } from '../screen';
import { paragraph, remedyLine } from './text';

/** As the longest name, and a space. */
const STEP_WIDTH = 17;
const VERDICT_WIDTH = 6;
const INDENT = 2 + STEP_WIDTH + VERDICT_WIDTH;

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
    summary(report, screen),
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
  const label = `  ${step.padEnd(STEP_WIDTH)}${word.padEnd(VERDICT_WIDTH)}`;
  const [first = '', ...rest] = paragraph(label, finding, INDENT, width);
  const painted = `  ${step.padEnd(STEP_WIDTH)}${paint(colour, word.padEnd(VERDICT_WIDTH))}`;
  return [
    painted + first.slice(label.length),
    ...rest,
    ...(remedy === '' ? [] : [remedyLine(remedy, INDENT)]),
  ];
}

function summary({ verdict, node, zones }: DoctorReport, { paint }: Screen): string {
  const count = (wanted: Verdict): number =>
    [...node, ...zones.flatMap(({ steps }) => steps)].filter((s) => s.verdict === wanted).length;
  switch (verdict) {
    case 'ok':
    case 'skip':
      return paint('green', 'all is well');
    case 'warn':
      return paint('yellow', counted(count('warn'), 'warning'));
    case 'fail': {
      const warnings = count('warn');
      const more = warnings === 0 ? '' : `, ${counted(warnings, 'warning')}`;
      return paint('red', `broken: ${counted(count('fail'), 'fault')}${more}`);
    }
  }
}
