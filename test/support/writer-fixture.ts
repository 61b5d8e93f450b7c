/*
 * A writer over a file in a directory of its own, with a lock that the test can watch and block.
 */
import assert from 'node:assert';
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Change, ChangeResult, MetadataMaps } from '../../src/metadata/vm-data';
import type { WriteTarget } from '../../src/vm/store';
import { ConfigFiles } from '../../src/vm/config-files';
import { FileWriter, type FileWriterOptions } from '../../src/writes/file-writer';
import { Writer } from '../../src/writes/writer';
import { logRecords } from './log-records';
import { tempDir } from './temp-dir';

/** The defaults of the configuration. */
export const METADATA_LIMITS = {
  metadataBytes: 4 * 1024 * 1024,
  metadataKeys: 1024,
  fileBytes: 16 * 1024 * 1024,
};
export const STORED = { kind: 'stored' };
export const set = (key: string, value: string): Change => {
  return { kind: 'set', map: 'customer', key, value };
};
export const remove = (key: string): Change => ({ kind: 'remove', map: 'customer', key });

/** What vminfod shows. */
export const shown = (customer: object): MetadataMaps => ({
  customer: new Map(Object.entries(customer)),
  internal: new Map(),
});

/** Made before each test, ended after it. */
export class WriterFixture {
  readonly dir = tempDir();
  readonly path = join(this.dir.path, 'metadata.json');
  readonly logs = logRecords();
  /** Zones whose lock is held. */
  readonly held = new Set<string>();
  /** How often a lock was asked for. */
  takes = 0;
  /** A lock is given once this resolves. */
  blocked: Promise<void> = Promise.resolve();
  files: FileWriter;
  writer: Writer;

  constructor() {
    fs.writeFileSync(this.path, '{"customer_metadata":{},"internal_metadata":{}}');
    this.files = this.fileWriter();
    this.writer = new Writer(this.files);
  }

  /** Another writer in the place of the first. */
  make(options: Partial<FileWriterOptions> = {}, answerMs?: number): void {
    this.files = this.fileWriter(options);
    this.writer = new Writer(this.files, undefined, answerMs);
  }

  async end(): Promise<void> {
    await this.writer.stop();
    assert.deepStrictEqual([...this.held], [], 'no lock stays');
    assert.strictEqual(this.files.leaseStatus.holds, 0);
    const left = fs.readdirSync(this.dir.path).filter((name) => name.includes('mdatad'));
    assert.deepStrictEqual(left, [], 'no temp file stays');
    this.dir.remove();
  }

  target(zonename = 'z', directory = this.dir.path): WriteTarget {
    return { zonename, uuid: zonename, directory, log: this.logs.zoneLog(zonename) };
  }

  ask(change: Change, directory?: string, zonename?: string): Promise<ChangeResult> {
    return this.writer.change(this.target(zonename, directory), change);
  }

  /** The customer's map in the file. */
  customer(): unknown {
    const file: unknown = JSON.parse(fs.readFileSync(this.path, 'utf8'));
    return typeof file === 'object' && file !== null && 'customer_metadata' in file
      ? file.customer_metadata
      : undefined;
  }

  private fileWriter(options: Partial<FileWriterOptions> = {}): FileWriter {
    const takeLock: FileWriterOptions['takeLock'] = async (uuid, { signal }) => {
      this.takes++;
      const aborted = new Promise<never>((_, reject) => {
        signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
      });
      await Promise.race([this.blocked, aborted]);
      assert(!this.held.has(uuid), 'one holder at a time');
      this.held.add(uuid);
      return { release: () => void this.held.delete(uuid) };
    };
    return new FileWriter({
      lockPath: (uuid) => uuid,
      takeLock,
      limits: METADATA_LIMITS,
      files: new ConfigFiles(),
      confirmMs: 50,
      ...options,
    });
  }
}
