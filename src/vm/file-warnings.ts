/*
 * The warnings of config files that cannot be used: one for each change of what is wrong with a file, and
 * at most one a minute for the same reason, since a file can be written wrongly again and again.
 */
import type { ZoneLog } from '../log';
import { repeatsOf, type RepeatCounter } from '../log';

/** Where the warnings of a zone's files go. */
export type FileLog = Pick<ZoneLog, 'warn'>;

interface Told {
  /** Null while nothing is wrong. */
  what: string | null;
  readonly repeats: Map<string, RepeatCounter>;
}

/** What was warned of each file, for all VMs. */
export class FileWarnings {
  private readonly told = new Map<string, Told>();
  private readonly now: (() => number) | undefined;

  /** @param now a clock in ms that never goes back */
  constructor(now?: () => number) {
    this.now = now;
  }

  /** @param what tells one state of a broken file from another; a new one is news. */
  warn(
    path: string,
    reason: string,
    what: string,
    fields: Readonly<Record<string, unknown>>,
    log: FileLog,
  ): void {
    const told = this.told.get(path) ?? { what: null, repeats: new Map<string, RepeatCounter>() };
    this.told.set(path, told);
    if (told.what === what) {
      return;
    }
    told.what = what;
    const repeated = repeatsOf(told.repeats, reason, this.now).next();
    if (repeated !== null) {
      log.warn({ ...fields, repeated }, 'config file cannot be used');
    }
  }

  /** The file can be used again. */
  mended(path: string): void {
    const told = this.told.get(path);
    if (told !== undefined) {
      told.what = null;
    }
  }

  forget(path: string): void {
    this.told.delete(path);
  }
}
