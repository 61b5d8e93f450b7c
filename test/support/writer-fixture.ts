/*
 * A writer over a file in a directory of its own, whose locks the test can watch and take.
 */
import assert from 'node:assert';
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Change, ChangeResult, MetadataMaps } from '../../src/metadata/vm-data';
import { takeLock } from '../../src/platform/lock';
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
  /** How often a lock was asked for. */
  takes = 0;
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
    assert.strictEqual(this.held, 0, 'no lock stays');
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

  /** How many locks the writer holds. */
  get held(): number {
    return this.files.leaseStatus.holds;
  }

  /** Takes the locks of zones as somebody else would. Returns how to release them. */
  async block(...zonenames: readonly string[]): Promise<() => void> {
    const paths = zonenames.map((zonename) => this.lockOf(zonename));
    const locks = await Promise.all(paths.map((path) => takeLock(path, { timeoutMs: 1000 })));
    return () => locks.forEach((lock) => lock.release());
  }

  private lockOf(zonename: string): string {
    return join(this.dir.path, `${zonename}.lock`);
  }

  private fileWriter(options: Partial<FileWriterOptions> = {}): FileWriter {
    const lockPath = (uuid: string): string => {
      this.takes++;
      return this.lockOf(uuid);
    };
    const files = new ConfigFiles();
    return new FileWriter({ lockPath, limits: METADATA_LIMITS, files, confirmMs: 50, ...options });
  }
}
