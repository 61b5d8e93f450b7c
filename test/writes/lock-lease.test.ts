/*
 * Locks that are held on after a write, against the platform's VM tool in another process.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { FileWriter } from '../../src/writes/file-writer';
import { Writer } from '../../src/writes/writer';
import { within } from '../support/guest-session';
import { logRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';

const LOCK_CHILD = join(__dirname, '..', 'support', 'lock-child.js');
/** Longer than the test: no lock goes because vminfod was silent. */
const CONFIRM_MS = 60_000;
const LONGEST_MS = 1000;
/** The tool gets the lock when it is let go for the first time, or was not there yet. */
const MOST_RELEASES = 4;

describe('the lock that is held for vminfod', () => {
  let dir: TempDir;
  let writer: Writer;

  beforeEach(() => {
    dir = tempDir();
    fs.writeFileSync(join(dir.path, 'metadata.json'), '{}');
  });

  afterEach(async () => {
    await writer.stop();
    dir.remove();
  });

  it('is left to others now and then by a guest that never stops writing', async () => {
    const lockPath = join(dir.path, 'lock');
    const files = new FileWriter({
      lockPath: () => lockPath,
      confirmMs: CONFIRM_MS,
      longestLeaseMs: LONGEST_MS,
    });
    writer = new Writer(files, { perSecond: 1e6, burst: 1e6 });
    const log = logRecords().zoneLog('z');
    const target = { zonename: 'z', uuid: 'z', directory: dir.path, log };
    const over = new AbortController();
    let last = 0;
    const guest = (async () => {
      while (!over.signal.aborted) {
        const change = { kind: 'set', map: 'customer', key: 'k', value: String(++last) } as const;
        assert.strictEqual((await writer.change(target, change)).kind, 'stored');
      }
    })();
    try {
      const tool = spawn(process.execPath, [LOCK_CHILD, lockPath, '50'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const ended = once(tool, 'exit');
      await within(once(tool.stdout, 'data'), 20_000, 'the lock');
      const { unconfirmed } = files.leaseStatus;
      assert(unconfirmed >= 1 && unconfirmed <= MOST_RELEASES, `let go ${unconfirmed} times`);
      await ended;
    } finally {
      over.abort();
      await guest;
    }
    const file = fs.readFileSync(join(dir.path, 'metadata.json'), 'utf8');
    assert.deepStrictEqual(JSON.parse(file), { customer_metadata: { k: String(last) } });
    // What is still held waits for vminfod, which says nothing here.
    files.observe('z', { customer: new Map([['k', String(last)]]), internal: new Map() });
  });
});
