/*
 * The emulation and the queue of the addon as C: under the sanitizers and valgrind, against a dead
 * writer, with many threads, and at what cost. The program is emulation.c and its scenarios, beside this test.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pending } from '../support/pending';

const TOP = resolve(__dirname, '..', '..', '..');
const NATIVE = join(TOP, 'native');
const HERE = join(TOP, 'test/native');
const SOURCES = [
  ...['emulation.c', 'emulation-events.c', 'emulation-races.c'].map((name) => join(HERE, name)),
  ...['zone_events.c', 'zone_queue.c'].map((name) => join(NATIVE, name)),
  ...readdirSync(join(NATIVE, 'emul'))
    .filter((name) => name.endsWith('.c') && name !== 'zexec.c' && name !== 'zport.c')
    .map((name) => join(NATIVE, 'emul', name)),
];
const SCENARIOS = ['zones', 'events', 'threads', 'dead-writer'];

describe('the emulation in C', () => {
  let directory: string;

  before(function () {
    if (spawnSync('cc', ['--version']).status !== 0) {
      pending(this, 'needs a C compiler');
    }
    directory = mkdtempSync(join(tmpdir(), 'emulation-'));
  });

  after(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  function build(name: string, flags: readonly string[]): string {
    const program = join(directory, name);
    const args = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-g', '-pthread', `-I${NATIVE}`];
    const { status, stderr } = spawnSync('cc', [...args, ...flags, '-o', program, ...SOURCES], {
      encoding: 'utf8',
    });
    assert.strictEqual(stderr, '');
    assert.strictEqual(status, 0);
    return program;
  }

  function run(command: readonly string[], scenario: string): string {
    const root = mkdtempSync(join(directory, 'root-'));
    const [program = '', ...args] = command;
    const { status, stdout, stderr } = spawnSync(program, [...args, scenario, root], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    assert.strictEqual(stderr, '');
    assert.strictEqual(status, 0);
    return stdout.trim();
  }

  it('walks the index for a path or a state, and parses twice for a brand, as libzonecfg does', () => {
    const program = build('plain', ['-O2']);
    // A comment and the global zone come first.
    assert.strictEqual(run([program], 'costs-100'), '102 102 2 0');
    assert.strictEqual(run([program], 'costs-1600'), '1602 1602 2 0');
  });

  it('is clean under the address and undefined-behaviour sanitizers', function () {
    this.timeout(180_000);
    const program = build('sanitized', ['-fsanitize=address,undefined', '-fno-sanitize-recover']);
    for (const scenario of SCENARIOS) {
      assert.strictEqual(run([program], scenario), 'ok', scenario);
    }
  });

  it('is clean under the thread sanitizer', function () {
    this.timeout(180_000);
    const program = build('threads', ['-fsanitize=thread', '-Wno-tsan']);
    for (const scenario of ['events', 'threads']) {
      assert.strictEqual(run([program], scenario), 'ok', scenario);
    }
  });

  it('leaks no memory and no descriptor under valgrind', function () {
    this.timeout(180_000);
    if (spawnSync('valgrind', ['--version']).status !== 0) {
      pending(this, 'needs valgrind');
    }
    const valgrind = ['valgrind', '-q', '--error-exitcode=9', '--leak-check=full'];
    for (const scenario of ['zones', 'events']) {
      assert.strictEqual(run([...valgrind, build('plain', ['-O1'])], scenario), 'ok', scenario);
    }
  });
});
