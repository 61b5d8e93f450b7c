/*
 * What `mdatactl completion` has to complete, with the names of the columns that -o and -s take. Pure.
 */
import type { Command } from 'commander';
import { mdatadCommand } from '../../src/config';
import { completed, MDATA_PROGRAMS, type Completed } from '../completed';
import { DATASET_FIELD_NAMES } from './show-datasets';
import { KEY_FIELD_NAMES, ZONE_FIELD_NAMES } from './show-zones';
import { TOP_FIELD_NAMES } from './top';

/** Everything that is completed on a node: mdatactl, the daemon, and the guests' commands. */
export function completedPrograms(mdatactl: Command): readonly Completed[] {
  const columns = {
    zones: ZONE_FIELD_NAMES,
    keys: KEY_FIELD_NAMES,
    datasets: DATASET_FIELD_NAMES,
    top: TOP_FIELD_NAMES,
  };
  const lists = Object.entries(columns).flatMap(([command, names]) =>
    ['--fields', '--sort'].map((flag) => [`${command} ${flag}`, names] as const),
  );
  const program = completed(mdatactl, {}, Object.fromEntries(lists));
  return [program, completed(mdatadCommand()), ...MDATA_PROGRAMS];
}
