/*
 * What a VM's data looks like at one moment, by a stat of each of its files and the object that vminfod told last: as
 * long as it is the same, all answers are. Asked for the zones that somebody waits in for a change.
 */
import { codeOf } from '../lib/errors';
import type { DataVersion } from '../lib/data-version';
import { changedMsOf, openStat, textOfStat } from '../platform/files';
import { pathOf, type ConfigName } from './config-read';

/** A file changed this shortly before may change again within one tick of the file system's clock and look the same. */
const UNSETTLED_MS = 20;
const NAMES: readonly ConfigName[] = ['metadata', 'tags', 'routes'];

/** Of all VMs. */
export class DataVersions {
  private readonly statAt = openStat();
  /** Numbers of the VM objects' facts, which are new where the object is. */
  private readonly numbers = new WeakMap<object, number>();
  private last = 0;

  /** @param facts of the VM object; undefined while there is none */
  of(directory: string, facts: object | undefined): DataVersion {
    let settled = true;
    const parts = NAMES.map((name) => {
      try {
        const stat = this.statAt(pathOf(directory, name));
        if (stat === null) {
          return '';
        }
        settled &&= Math.abs(Date.now() - changedMsOf(stat)) > UNSETTLED_MS;
        return textOfStat(stat);
      } catch (err) {
        // Whoever reads the file meets the fault too.
        return codeOf(err);
      }
    });
    return { text: `${this.numberOf(facts)} ${parts.join(' ')}`, settled };
  }

  private numberOf(facts: object | undefined): number {
    if (facts === undefined) {
      return 0;
    }
    const number = this.numbers.get(facts) ?? ++this.last;
    this.numbers.set(facts, number);
    return number;
  }
}
