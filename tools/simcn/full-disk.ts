/*
 * A zone's config directory without room: every write fails, what is there can still be read.
 *
 * As root a tiny file system is mounted over the directory, with the directory's files in it and the rest
 * filled up: a real ENOSPC. An ordinary user may not mount; his directory becomes unwritable instead, which
 * is EACCES at the same calls, and he is told so.
 */
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { codeOf } from '../../src/lib/errors';
import { run } from '../../src/platform/exec';

/** Added to the size of the directory's files: what the file system itself takes. */
const ROOM_BYTES = 64 * 1024;
const FILLER = '.full';
/** A directory that is in use is waited for this long. */
const BUSY_MS = 10_000;
const BUSY_POLL_MS = 20;
const FILLER_CHUNK = Buffer.alloc(4096);

type Trick = 'mounted' | 'unwritable';

/** Fills the config directory of one zone, and makes room again. */
export class FullDisk {
  private readonly directory: string;
  private trick: Trick | null = null;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** @returns what is different from a real full disk, '' for nothing */
  async fill(): Promise<string> {
    if (process.geteuid?.() !== 0) {
      chmodSync(this.directory, 0o555);
      this.trick = 'unwritable';
      return 'an ordinary user cannot fill a disk: writes fail with EACCES instead of ENOSPC';
    }
    const files = this.read();
    const bytes = [...files.values()].reduce((sum, content) => sum + content.length + 4096, 0);
    const options = `size=${ROOM_BYTES + bytes},mode=755`;
    await run(['mount', '-t', 'tmpfs', '-o', options, 'simcn-full', this.directory]);
    this.trick = 'mounted';
    this.write(files);
    this.fillUp();
    return '';
  }

  /** Gives the room back. What was changed meanwhile (a rename needs no room) stays. */
  async release(): Promise<void> {
    const trick = this.trick;
    this.trick = null;
    if (trick === 'unwritable') {
      chmodSync(this.directory, 0o755);
    } else if (trick === 'mounted') {
      rmSync(join(this.directory, FILLER), { force: true });
      this.write(await this.unmount());
    }
  }

  /** Who has a file of the directory open makes it busy, for a moment. @returns the last files in it */
  private async unmount(): Promise<ReadonlyMap<string, Buffer>> {
    const end = performance.now() + BUSY_MS;
    for (;;) {
      const files = this.read();
      try {
        await run(['umount', this.directory]);
        return files;
      } catch (err) {
        if (codeOf(err) !== 'EXIT_32' || performance.now() > end) {
          throw err;
        }
        await delay(BUSY_POLL_MS);
      }
    }
  }

  private read(): Map<string, Buffer> {
    const names = readdirSync(this.directory, { withFileTypes: true }).filter((e) => e.isFile());
    return new Map(names.map(({ name }) => [name, readFileSync(join(this.directory, name))]));
  }

  private write(files: ReadonlyMap<string, Buffer>): void {
    for (const [name, content] of files) {
      writeFileSync(join(this.directory, name), content, { mode: 0o644 });
    }
  }

  private fillUp(): void {
    const fd = openSync(join(this.directory, FILLER), 'w', 0o600);
    try {
      for (;;) {
        writeSync(fd, FILLER_CHUNK);
      }
    } catch (err) {
      if (codeOf(err) !== 'ENOSPC') {
        throw err;
      }
    } finally {
      closeSync(fd);
    }
  }
}
