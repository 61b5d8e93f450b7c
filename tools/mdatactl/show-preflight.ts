/* `mdatactl preflight` for a person: one line a check; for what is not well what was expected and what to do. Pure. */
import { counted } from '../../src/admin/format';
import type { PreflightCheck, PreflightReport, PreflightVerdict } from '../preflight/check';
import type { Colour, Screen } from '../screen';
import { paragraph } from './text';

const VERDICT_WIDTH = 6;
const NAME_WIDTH = 18;
const INDENT = VERDICT_WIDTH + NAME_WIDTH;

const LABELS: Readonly<Record<PreflightVerdict, readonly [word: string, colour: Colour]>> = {
  ok: ['ok', 'green'],
  warn: ['WARN', 'yellow'],
  fail: ['FAIL', 'red'],
};

export function showPreflight(report: PreflightReport, screen: Screen): string[] {
  return [
    ...report.checks.flatMap((check) => checkLines(check, screen)),
    '',
    summary(report, screen),
  ];
}

function checkLines(check: PreflightCheck, { paint, width }: Screen): string[] {
  const { name, verdict, expected, seen, remedy } = check;
  const [word, colour] = LABELS[verdict];
  const label = word.padEnd(VERDICT_WIDTH) + name.padEnd(NAME_WIDTH);
  const [first = '', ...more] = paragraph(label, seen, INDENT, width);
  const lines = [paint(colour, word) + first.slice(word.length), ...more];
  return verdict === 'ok'
    ? lines
    : [
        ...lines,
        ...paragraph('', `expected: ${expected}`, VERDICT_WIDTH, width),
        // One line, however long: it may be copied.
        `${''.padEnd(VERDICT_WIDTH)}-> ${remedy}`,
      ];
}

function summary({ checks, elapsed_ms }: PreflightReport, { paint }: Screen): string {
  const count = (wanted: PreflightVerdict): number => {
    return checks.filter(({ verdict }) => verdict === wanted).length;
  };
  const [failed, warned] = [count('fail'), count('warn')];
  const tail = `${counted(checks.length, 'check')} in ${(elapsed_ms / 1000).toFixed(1)} s`;
  if (failed > 0) {
    const more = warned === 0 ? '' : `, ${counted(warned, 'warning')}`;
    return paint('red', `do not install: ${failed} failed${more}; ${tail}`);
  }
  return warned > 0
    ? paint('yellow', `${counted(warned, 'warning')}, nothing failed; ${tail}`)
    : paint('green', `all is well; ${tail}`);
}
