/* All commands that have a manual page. */
import type { ManCommand } from './command';
import { MDATA_DELETE, MDATA_GET, MDATA_LIST, MDATA_PUT } from './pages/mdata';
import { MDATA_DUMP, MDATA_WATCH } from './pages/mdata-watch';
import { MDATACTL } from './pages/mdatactl';
import { MDATAD } from './pages/mdatad';
import { SIMCN } from './pages/simcn';

export const COMMANDS: readonly ManCommand[] = [
  MDATAD,
  MDATACTL,
  SIMCN,
  MDATA_GET,
  MDATA_PUT,
  MDATA_LIST,
  MDATA_DELETE,
  MDATA_WATCH,
  MDATA_DUMP,
];

/** The file that man(1) looks for, in the directory of its section. */
export function fileNameOf({ name, section }: ManCommand): string {
  return `${name}.${section}`;
}
