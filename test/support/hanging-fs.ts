/*
 * File systems that never answer, mounted for real (hanging-fs.c): whoever names a path on them is held by
 * the kernel, and no signal ends him there.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { whyNotRoot } from './pending';

const SOURCE = join(__dirname, '..', '..', '..', 'test', 'support', 'hanging-fs.c');

/** Null where such a file system can be mounted, else why not. */
export function whyNoHangingFs(): string | null {
  if (whyNotRoot() !== null) {
    return whyNotRoot();
  }
  try {
    closeSync(openSync('/dev/fuse', 'r+'));
  } catch {
    return 'needs /dev/fuse';
  }
  return spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc';
}

/** All of one test's. */
export class HangingFileSystems {
  private readonly directory = mkdtempSync(join(tmpdir(), 'hang-'));
  private readonly program = join(this.directory, 'hanging-fs');
  private readonly mounted = new Map<string, ChildProcess>();

  constructor() {
    const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
    const { status, stderr } = spawnSync('cc', [...flags, '-o', this.program, SOURCE], {
      encoding: 'utf8',
    });
    if (status !== 0) {
      throw new Error(`cc: ${stderr}`);
    }
  }

  /** Mounts one on a directory. */
  async mountOn(directory: string): Promise<void> {
    const child = spawn(this.program, [directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.mounted.set(directory, child);
    const ended = once(child, 'exit').then(() => Promise.reject(new Error(`${directory}: ended`)));
    ended.catch(() => undefined);
    await Promise.race([once(child.stdout, 'data'), ended]);
  }

  /** It answers, with a failure, and is gone. */
  async letGo(directory: string): Promise<void> {
    const child = this.mounted.get(directory);
    this.mounted.delete(directory);
    if (child?.exitCode === null) {
      const exited = once(child, 'exit');
      child.stdin?.end('\n');
      await exited;
    }
  }

  /** Lets go of all. */
  async remove(): Promise<void> {
    await Promise.all([...this.mounted.keys()].map((directory) => this.letGo(directory)));
    rmSync(this.directory, { recursive: true });
  }
}
