import assert from 'node:assert';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { LogSink } from '../src/log-sink';
import { eventually } from './support/eventually';

describe('the log sink', () => {
  let folder: string;
  let path: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mdatad-'));
    path = join(folder, 'log');
  });

  afterEach(() => rmSync(folder, { recursive: true }));

  it('writes every line in order without being waited for', async () => {
    const fd = openSync(path, 'a');
    const sink = new LogSink(fd);
    const lines = Array.from({ length: 1000 }, (_, i) => `line ${i}\n`);
    lines.forEach((line) => sink.write(line));
    await eventually(() => readFileSync(path, 'utf8') === lines.join(''));
    closeSync(fd);
  });

  it('writes out what is left when the process ends', () => {
    const fd = openSync(path, 'a');
    const sink = new LogSink(fd);
    sink.write('last words\n');
    sink.flushSync();
    assert.strictEqual(readFileSync(path, 'utf8'), 'last words\n');
    closeSync(fd);
  });

  it('counts what a full disk took, and lives', async () => {
    const fd = openSync('/dev/full', 'a');
    const sink = new LogSink(fd);
    sink.write('one\n');
    sink.write('two\n');
    await eventually(() => sink.lostRecords === 2);
    closeSync(fd);
  });

  it('keeps a bounded amount for a log that takes nothing', () => {
    const fd = openSync('/dev/full', 'a');
    const sink = new LogSink(fd);
    const line = `${'x'.repeat(1023)}\n`;
    for (let i = 0; i < 8 * 1024; i++) {
      sink.write(line);
    }
    assert.strictEqual(sink.lostRecords, 4 * 1024);
    closeSync(fd);
  });

  it('tells how many were lost with the next record that gets through', () => {
    const full = openSync('/dev/full', 'a');
    const sink = new LogSink(full);
    for (let i = 0; i < 4097; i++) {
      sink.write(`${'x'.repeat(1023)}\n`);
    }
    closeSync(full);
    // The descriptor number is free now: the next open gets it, as when space returns.
    const fd = openSync(path, 'a');
    assert.strictEqual(fd, full);
    sink.flushSync();
    const last = readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? '';
    const { lost, time, ...others } = JSON.parse(last) as Record<string, unknown>;
    assert.strictEqual(lost, 1);
    assert(!Number.isNaN(Date.parse(String(time))));
    // The members that every record of the log has.
    assert.deepStrictEqual(others, {
      ...{ name: 'metadata', hostname: hostname(), pid: process.pid, level: 40, v: 0 },
      msg: 'log records were lost',
    });
    closeSync(fd);
  });
});
