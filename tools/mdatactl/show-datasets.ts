/* `mdatactl datasets` for a person. Pure. */
import type { DatasetsReport } from '../../src/admin/routes';
import { counted } from '../../src/admin/format';
import type { Owners, Use } from '../../src/datasets/policy';
import type { Colour, Screen } from '../screen';
import { listing, type Field, type ListingOptions } from '../listing';
import { paragraph, remedyLine } from './text';

type DatasetRow = DatasetsReport['zones'][number];

const FIELDS: readonly Field<DatasetRow>[] = [
  { name: 'zone', also: 'uuid', title: 'ZONE', value: (row) => row.zonename },
  { name: 'alias', title: 'ALIAS', value: (row) => row.alias },
  {
    name: 'verdict',
    title: 'VERDICT',
    value: (row) => verdictOf(row.audit)[0],
    colour: (row) => verdictOf(row.audit)[1],
  },
  {
    name: 'snapshots',
    title: 'SNAPSHOTS',
    align: 'right',
    value: (row) => useOf(row.audit.use.zfs_snapshot_limit),
  },
  {
    name: 'filesystems',
    title: 'FILESYSTEMS',
    align: 'right',
    value: (row) => useOf(row.audit.use.zfs_filesystem_limit),
  },
  { name: 'dataset', title: 'DATASET', value: (row) => row.audit.datasets.join(' ') },
];
export const DATASET_FIELD_NAMES = FIELDS.map(({ name }) => name);
const DEFAULT_FIELDS = DATASET_FIELD_NAMES.join(',');

/** `mdatactl datasets`, for a person or a script. */
export function showDatasets(
  report: DatasetsReport,
  options: ListingOptions,
  screen: Screen,
): string[] {
  const { policy, zones, usageUnknown } = report;
  if (options.noHeader === true || options.parsable === true) {
    return listing(FIELDS, DEFAULT_FIELDS, zones, options, screen);
  }
  const lines = [
    `policy "safe": ${policy.enabled ? 'on' : 'off'}, for ${owners(policy.safeOwners)}`,
    ...(usageUnknown === ''
      ? []
      : paragraph('', `usage is unknown: ${usageUnknown}`, 0, screen.width)),
  ];
  if (zones.length === 0) {
    return [...lines, 'no VM has a delegated dataset'];
  }
  return [
    ...lines,
    '',
    ...listing(FIELDS, DEFAULT_FIELDS, zones, options, screen),
    ...zones.flatMap((zone) => findingLines(zone, screen)),
  ];
}

function verdictOf(audit: DatasetRow['audit']): [string, Colour] {
  switch (audit.kind) {
    case 'safe':
      return ['safe', 'green'];
    case 'unsafe':
      return ['UNSAFE', 'red'];
    case 'unknown':
      return ['unknown', 'yellow'];
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
      remedyLine(fix, 4),
    ]),
  ];
}

function owners(list: Owners): string {
  return list === 'all' ? 'every owner' : counted(list.length, 'listed owner');
}
