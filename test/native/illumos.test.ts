/*
 * The addon's C for the platform that it is for: clang checks it with illumos as the target and
 * stand-ins for the headers that it needs. On illumos itself the real ones are used, by node-gyp.
 */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
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

  it('is all the code of the addon and its programs', () => {
    const gyp = readFileSync(join(NATIVE, 'binding.gyp'), 'utf8');
    const named = [...gyp.matchAll(/'([a-z_]+\.c)'/g)].map((match) => match[1]);
    assert.deepStrictEqual(named.sort(), SOURCES);
  });

  for (const source of SOURCES) {
    for (const standard of ['c11', 'gnu99', 'gnu11']) {
      it(`compiles without a warning: ${source} as ${standard}`, () => {
        const { status, stderr } = check(join(NATIVE, source), standard);
        assert.strictEqual(stderr, '');
        assert.strictEqual(status, 0);
      });
    }
  }

  it('would not, if it forgot to ask the headers for more than standard C', () => {
    // The check itself can fail: the same source with its request undone.
    const source = join(NATIVE, 'zone_events.c');
    const { status, stderr } = check(source, 'c11', [
      ...['-include', join(HEADERS, 'sys/feature_tests.h')],
      '-D_STRICT_STDC',
    ]);
    assert.notStrictEqual(status, 0);
    assert.match(stderr, /pthread|sigset_t/);
  });
});
