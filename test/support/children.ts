/* The processes that a process has started and that are still there. */
import { readdirSync, readFileSync } from 'node:fs';

/** How many; one counts until it is gone. @param program in their command line; any by default */
export function childrenOf(parent: number | undefined, program = ''): number {
  return readdirSync('/proc').filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const isChild = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent;
      return isChild && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(program);
    } catch {
      // No process, or one that has just ended.
      return false;
    }
  }).length;
}
