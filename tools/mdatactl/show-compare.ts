/* `mdatactl compare` for a person: counts, then each difference by key and lengths. Pure. */
import type { CompareReport, Difference } from './compare';
import { DOCUMENTED, type AnswerShape, type DocumentedId } from './compare-differences';
import { counted } from '../../src/admin/format';
import type { Screen } from '../screen';
import { paragraph } from './text';

const LABEL_WIDTH = 14;
/** More are in the JSON. */
const MOST_SHOWN = 20;

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
  const counts = new Map<DocumentedId, number>();
  for (const { id } of documented) {
    if (id !== null) {
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
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
