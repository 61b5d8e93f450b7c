/*
 * What was read of files, for as long as they are unchanged.
 *
 * Every reader asks the file itself (one lstat) whether it is still the one that was read, so a change is seen by the
 * next one whoever made it; readers within one tick share the stat. A file that is missing or cannot be used reads as
 * empty. A fault of the machine (EIO, too many open files) does not: then the last good reading is served, and without
 * one it throws, since a guest takes "no such key" for good.
 */
import { codeOf, SystemError, systemError } from '../lib/errors';
import { Lru } from '../lib/lru';
import { repeatsOf, type RepeatCounter, type ZoneLog } from '../log';
import {
  isSettled,
  openStat,
  sameStat,
  textOfStat,
  type DataVersion,
  type FileStat,
} from '../platform/files';
import { readText, readTextNow, type FileText, type ScannedText } from '../platform/metadata-text';

export type FileLog = Pick<ZoneLog, 'warn'>;

/** Of an entry, besides its content. */
const ENTRY_BYTES = 1024;
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR']);

interface Reading<T> {
  readonly stat: FileStat;
  /** False: may change without a change of its stat. */
  readonly settled: boolean;
  /** In which it was read. */
  readonly tick: number;
  readonly content: T;
}

/** The contents of files of one kind. */
export class FileCache<T extends object> {
  private readonly readings: Lru<Reading<T>>;
  private readonly warned = new Map<string, Map<string, RepeatCounter>>();
  private readonly statAt = openStat();
  /** Good for its tick. */
  private last: Readonly<{ tick: number; path: string; stat: FileStat | null }> | null = null;

  /**
   * @param maxBytes what is kept may weigh so much together
   * @param empty what a file reads as that is missing or cannot be used
   * @param contentOf what is kept of a file, and how much it weighs, bytes
   * @param tick the same number for readers that may share a stat
   */
  constructor(
    maxBytes: number,
    private readonly empty: T,
    private readonly contentOf: (path: string, text: ScannedText) => readonly [T, number],
    private readonly tick: () => number,
  ) {
    this.readings = new Lru(maxBytes);
  }

  /** Null where there is no file; to be read before the next stat. Throws a SystemError. */
  stat(path: string): FileStat | null {
    const tick = this.tick();
    if (this.last?.path !== path || this.last.tick !== tick) {
      this.last = null;
      this.last = { tick, path, stat: this.statUnlessAbsent(path) };
    }
    return this.last.stat;
  }

  version(path: string): DataVersion {
    try {
      const seen = this.stat(path);
      return seen === null
        ? { text: '', settled: true }
        : { text: textOfStat(seen), settled: isSettled(seen) };
    } catch (err) {
      // Whoever reads the file meets the fault too.
      return { text: codeOf(err), settled: true };
    }
  }

  /** What is kept of the file as it is now; null: nothing. Throws a SystemError. */
  kept(path: string): T | null {
    return this.keptAs(path, this.stat(path));
  }

  /** The content as a reader has it; null where the file has to be read. Throws a SystemError. */
  current(path: string, log: FileLog): T | null {
    try {
      const seen = this.stat(path);
      if (seen !== null) {
        return this.keptAs(path, seen);
      }
      this.readings.delete(path);
      return this.empty;
    } catch (err) {
      return this.failed(path, err, log);
    }
  }

  /** Reads the file at once, which is for short ones. Throws a SystemError where nothing is served. */
  readNow(path: string, log: FileLog, bytesMax: number, keepMax: number): T {
    try {
      return this.take(path, readTextNow(path, bytesMax, keepMax), log);
    } catch (err) {
      return this.failed(path, err, log);
    }
  }

  /** The same on a thread of the pool. */
  async read(path: string, log: FileLog, bytesMax: number, keepMax: number): Promise<T> {
    try {
      return this.take(path, await readText(path, bytesMax, keepMax), log);
    } catch (err) {
      return this.failed(path, err, log);
    }
  }

  /** @param settled false: the file is read again next time, as it may change without a change of its stat */
  keep(path: string, text: ScannedText, settled = isSettled(text.stat)): T {
    const [content, bytes] = this.contentOf(path, text);
    this.set(path, text.stat, content, bytes, settled);
    return content;
  }

  /** What is served of a file that could not be read. Throws a SystemError where nothing is. */
  failed(path: string, cause: unknown, log: FileLog): T {
    const code = codeOf(cause);
    if (ABSENT.has(code)) {
      this.readings.delete(path);
      return this.empty;
    }
    const err = systemError('read', path, cause);
    this.warn(path, code, { err }, log);
    const known = this.readings.get(path);
    if (known === undefined) {
      throw err;
    }
    return known.content;
  }

  remove(path: string): void {
    this.readings.delete(path);
    this.warned.delete(path);
    this.last = null;
  }

  private take(path: string, file: FileText, log: FileLog): T {
    if (file.kind === 'ok') {
      return this.keep(path, file);
    }
    const { stat, reason } = file;
    if (reason === 'changed while it was read') {
      throw new SystemError('read', path, 'EAGAIN', 'changed each time while it was read');
    }
    this.warn(path, reason, { path, reason }, log);
    // Until it is another file.
    this.set(path, stat, this.empty, 0, isSettled(stat));
    return this.empty;
  }

  private set(path: string, stat: FileStat, content: T, bytes: number, settled: boolean): void {
    const tick = this.tick();
    this.readings.set(path, { stat, settled, tick, content }, ENTRY_BYTES + bytes);
    this.last = null;
  }

  private keptAs(path: string, seen: FileStat | null): T | null {
    const known = this.readings.get(path);
    return seen !== null &&
      known !== undefined &&
      (known.settled || known.tick === this.tick()) &&
      sameStat(known.stat, seen)
      ? known.content
      : null;
  }

  private statUnlessAbsent(path: string): FileStat | null {
    try {
      return this.statAt(path);
    } catch (err) {
      if (ABSENT.has(codeOf(err))) {
        return null;
      }
      throw err;
    }
  }

  /** At most once a minute for the same reason, since a file can be written wrongly again and again. */
  private warn(path: string, reason: string, fields: object, log: FileLog): void {
    const repeats = this.warned.get(path) ?? new Map<string, RepeatCounter>();
    this.warned.set(path, repeats);
    const repeated = repeatsOf(repeats, reason).next();
    if (repeated !== null) {
      log.warn({ ...fields, repeated }, 'config file cannot be used');
    }
  }
}
