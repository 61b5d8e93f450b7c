/*
 * vminfod's eye on a zone's config folder: says when a file in it may have changed.
 */
import { watch, type FSWatcher } from 'node:fs';

/** A rename over a file comes as several notices; one look at the files will do. */
const SETTLE_MS = 2;

export class ConfigWatch {
  private readonly watcher: FSWatcher;
  private timer: NodeJS.Timeout | null = null;

  /** @param changed called after a change, some ms late, many changes at once */
  constructor(folder: string, changed: () => void) {
    this.watcher = watch(folder, () => {
      this.timer ??= setTimeout(() => {
        this.timer = null;
        changed();
      }, SETTLE_MS);
    });
    // The folder was removed under it: whoever removes it closes this.
    this.watcher.on('error', () => undefined);
  }

  close(): void {
    this.watcher.close();
    if (this.timer !== null) {
      clearTimeout(this.timer);
    }
  }
}
