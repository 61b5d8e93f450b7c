/* `mdatactl datasets` for a person. Pure. */
import type { DatasetRow, DatasetsReport } from '../../src/admin/datasets-report';
import { counted } from '../../src/admin/format';
import type { Use } from '../../src/datasets/audit';
import type { Owners } from '../../src/datasets/rules';
import type { Colour, Screen } from './paint';
import { paragraph, remedyLines, table, type Cell, type Column } from './table';

const COLUMNS: readonly Column[] = [
  { title: 'ZONE', least: 8 },
  { title: 'ALIAS', soft: 12, least: 6 },
  { title: 'VERDICT' },
  { title: 'SNAPSHOTS', align: 'right' },
  { title: 'FILESYSTEMS', align: 'right' },
  { title: 'DATASET', soft: 24, least: 12 },
];

/** `mdatactl datasets`, for a person. */
export function showDatasets(report: DatasetsReport, screen: Screen): string[] {
  const { policy, zones, usageUnknown } = report;
  const lines = [
    `policy "safe": ${policy.enabled ? 'on' : 'off'}, for ${owners(policy.safeOwners)}`,
    ...(usageUnknown === ''
      ? []
      : paragraph('', `use is not known: ${usageUnknown}`, 0, screen.width)),
  ];
  if (zones.length === 0) {
    return [...lines, 'no VM has a delegated dataset'];
  }
  return [
    ...lines,
    '',
    ...table(COLUMNS, zones.map(rowOf), screen),
    ...zones.flatMap((zone) => findingLines(zone, screen)),
  ];
}

function rowOf({ zonename, alias, audit }: DatasetRow): Cell[] {
  const [verdict, colour] = verdictOf(audit);
  return [
    { text: zonename },
    { text: alias ?? '-' },
    { text: verdict, colour },
    { text: useOf(audit.use.zfs_snapshot_limit) },
    { text: useOf(audit.use.zfs_filesystem_limit) },
    { text: audit.datasets.join(' ') },
  ];
}

function verdictOf(audit: DatasetRow['audit']): [string, Colour] {
  switch (audit.kind) {
    case 'safe':
      return ['safe', 'green'];
    case 'unsafe':
      return ['UNSAFE', 'red'];
    case 'exempt':
      return [audit.why === 'owner' ? 'exempt' : 'plain', 'dim'];
  }
}

function useOf({ used, limit }: Use): string {
  return `${used ?? '?'}/${limit ?? 'none'}`;
}

function findingLines({ zonename, audit }: DatasetRow, { width }: Screen): string[] {
  if (audit.kind !== 'unsafe') {
    return [];
  }
  return [
    '',
    zonename,
    ...audit.findings.flatMap(({ text, fix }) => [
      ...paragraph('', text, 2, width),
      ...remedyLines(fix, 4, width),
    ]),
  ];
}

function owners(list: Owners): string {
  return list === 'all' ? 'every owner' : counted(list.length, 'listed owner');
}
