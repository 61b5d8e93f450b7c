/*
 * The addon's C for the platform that it is for: clang checks it with illumos as the target and
 * stand-ins for the headers that it needs. On illumos itself the real ones are used, by node-gyp.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pending } from '../support/pending';

const TOP = resolve(__dirname, '..', '..', '..');
const NATIVE = join(TOP, 'native');
const HEADERS = join(TOP, 'test/support/illumos/include');
const NODE_HEADERS = resolve(dirname(process.execPath), '../include/node');

/** What is built on illumos: all but the emulation. */
const SOURCES = readdirSync(NATIVE).filter((name) => name.endsWith('.c'));

function clang(args: readonly string[]) {
  return spawnSync('clang', args, { encoding: 'utf8' });
}

function check(source: string, standard: string, extra: readonly string[] = []) {
  const builtin = clang(['-print-resource-dir']).stdout.trim();
  return clang([
    '--target=x86_64-pc-solaris2.11',
    '-fsyntax-only',
    `-std=${standard}`,
    ...['-Wall', '-Wextra', '-Wpedantic', '-Werror'],
    '-nostdinc',
    ...['-isystem', join(builtin, 'include'), '-isystem', HEADERS, '-isystem', NODE_HEADERS],
    '-DNAPI_VERSION=8',
    ...extra,
    source,
  ]);
}

describe('the native code for illumos', () => {
  before(function () {
    if (clang(['--version']).status !== 0) {
      pending(this, 'needs clang');
    }
    if (!existsSync(join(NODE_HEADERS, 'node_api.h'))) {
      pending(this, `needs the headers of Node in ${NODE_HEADERS}`);
    }
  });

  it('is every source in binding.gyp', () => {
    const gyp = readFileSync(join(NATIVE, 'binding.gyp'), 'utf8');
    const named = new Set([...gyp.matchAll(/'([a-z_]+\.c)'/g)].map((match) => match[1]));
    assert.deepStrictEqual([...named].sort(), SOURCES);
  });

  for (const source of SOURCES) {
    for (const standard of ['c11', 'gnu99', 'gnu11']) {
      it(`compiles ${source} as ${standard} without a warning`, () => {
        const { status, stderr } = check(join(NATIVE, source), standard);
        assert.strictEqual(stderr, '');
        assert.strictEqual(status, 0);
      });
    }
  }

  it('fails to compile without the feature macros', () => {
    // The check itself can fail: the same source with its request undone.
    const source = join(NATIVE, 'zone_events.c');
    const { status, stderr } = check(source, 'c11', [
      ...['-include', join(HEADERS, 'sys/feature_tests.h')],
      '-D_STRICT_STDC',
    ]);
    assert.notStrictEqual(status, 0);
    assert.match(stderr, /pthread|sigset_t/);
  });

  describe('by check:illumos', () => {
    const CHECK = join(TOP, 'dist/tools/check-illumos.js');
    let headers: string;

    beforeEach(() => {
      headers = mkdtempSync(join(tmpdir(), 'headers-'));
      cpSync(HEADERS, headers, { recursive: true });
    });

    afterEach(() => {
      rmSync(headers, { recursive: true, force: true });
    });

    function run(...args: readonly string[]) {
      return spawnSync(process.execPath, [CHECK, ...args], { encoding: 'utf8', timeout: 120_000 });
    }

    it('compiles, and finds each symbol in the library that binding.gyp links', function () {
      this.timeout(120_000);
      const { status, stdout, stderr } = run(headers);
      assert.deepStrictEqual([status, stderr], [0, '']);
      assert.match(
        stdout,
        /^libsocket: accept accept4 bind connect getsockopt listen recv sendmsg socket$/m,
      );
      assert.match(stdout, /^libzonecfg: zonecfg_notify_bind /m);
      const gyp = readFileSync(join(NATIVE, 'binding.gyp'), 'utf8');
      assert.match(gyp, /'libraries': \['-lzonecfg', '-lsocket', '-lnsl'\]/);
      assert.match(gyp, /'defines': \['_REENTRANT'\]/);
    });

    it('names the files that do not compile', function () {
      this.timeout(120_000);
      rmSync(join(headers, 'ucred.h'));
      const { status, stdout, stderr } = run(headers);
      assert.strictEqual(status, 1);
      assert.match(stdout, /^not compiled for illumos: peer\.c$/m);
      assert.match(stderr, /ucred\.h/);
    });

    it('names a symbol that is in no known library', function () {
      this.timeout(120_000);
      const header = join(headers, 'sys/statvfs.h');
      const text = readFileSync(header, 'utf8');
      const moved = text.replace(
        'struct statvfs *);',
        'struct statvfs *) __asm__("statvfs_of_nowhere");',
      );
      writeFileSync(header, moved);
      const { status, stdout } = run(headers);
      assert.strictEqual(status, 1);
      assert.match(stdout, /: statvfs_of_nowhere$/m);
    });

    it('exits with a usage error without a directory of headers', () => {
      assert.strictEqual(run(tmpdir()).status, 2);
      assert.strictEqual(run().status, 2);
    });
  });
});
