/*
 * `npm run check:illumos -- INCLUDE_DIR`: compiles the addon's C for illumos, with the headers of a real one.
 *
 * INCLUDE_DIR is a copy of /usr/include of a SmartOS zone or of an illumos build. Every C file of the addon is
 * compiled by clang for x86_64-pc-solaris2.11, once for each standard below, and no warning is let pass. Then
 * all symbols that the objects leave to others are listed by the library that exports them on illumos; one
 * that is in no list below is an error: nobody has looked where it comes from, and binding.gyp may not link it.
 *
 * Nothing is run and nothing is kept. Needs clang and nm. Exit status: 0 all well, 1 not, 2 wrong usage or
 * a tool that is missing.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Command, CommanderError } from 'commander';
import { messageOf } from '../src/lib/errors';
import { packageVersion } from '../src/lib/version';

const TARGET = 'x86_64-pc-solaris2.11';
const STANDARDS = ['c11', 'gnu11'];
const WARNINGS = ['-Wall', '-Wextra', '-Werror'];
/** As binding.gyp has them. */
const DEFINES = ['-DNAPI_VERSION=8', '-D_REENTRANT'];
const NATIVE = resolve(__dirname, '../../native');
const NODE_HEADERS = resolve(dirname(process.execPath), '../include/node');

/** What the node program itself exports to an addon. */
const OF_NODE = /^(napi|node_api|uv)_/;

/**
 * Where illumos has what we call: usr/src/lib/libc/port/mapfile-vers, libsocket/common/mapfile-vers and
 * libzonecfg/common/mapfile-vers. A program is linked with libc anyway; `__xnet_` is what the headers make of
 * a name for a program that asks for X/Open's sockets, which clang does for this target.
 */
const LIBRARIES: Readonly<Record<string, readonly string[]>> = {
  libc: [
    ...['___errno', '__assert_c99', '__assert', 'clock_gettime', 'getpeerucred', 'getzonenamebyid'],
    ...[
      'calloc',
      'free',
      'malloc',
      'memchr',
      'memcmp',
      'memcpy',
      'memmove',
      'memset',
      'realloc',
      'strerror',
      'strlen',
      'sigfillset',
    ],
    ...[
      'close',
      'fcntl',
      'fchmod',
      'fchown',
      'fstat',
      'fsync',
      'lstat',
      'mmap',
      'munmap',
      'open',
      'pread',
      'rename',
      'stat',
      'statvfs',
      'unlink',
    ],
    ...['ucred_free', 'ucred_geteuid', 'ucred_getpid', 'ucred_getzoneid', 'write'],
    ...[
      'pthread_cond_broadcast',
      'pthread_cond_destroy',
      'pthread_cond_init',
      'pthread_cond_signal',
    ],
    ...['pthread_cond_timedwait', 'pthread_cond_wait', 'pthread_condattr_destroy'],
    ...['pthread_condattr_init', 'pthread_condattr_setclock', 'pthread_create', 'pthread_equal'],
    ...['pthread_join', 'pthread_mutex_destroy', 'pthread_mutex_init', 'pthread_mutex_lock'],
    ...['pthread_mutex_unlock', 'pthread_self', 'pthread_sigmask', 'zone_getattr', 'zone_list'],
    ...[
      '_exit',
      'atoi',
      'chdir',
      'exit',
      'fchdir',
      'fstatat',
      'getenv',
      'mkdirat',
      'mount',
      'openat',
      'poll',
    ],
    ...['read', 'snprintf', 'stat', 'strcmp', 'umount2'],
  ],
  libsocket: [
    ...['__xnet_bind', '__xnet_connect', '__xnet_getsockopt', '__xnet_sendmsg', '__xnet_socket'],
    ...[
      'accept',
      'accept4',
      'bind',
      'connect',
      'getsockopt',
      'listen',
      'recv',
      'sendmsg',
      'socket',
    ],
  ],
  libzonecfg: [
    ...['zonecfg_notify_bind', 'zonecfg_notify_unbind', 'zonecfg_notify_critical_abort'],
    ...['zonecfg_notify_critical_enter', 'zonecfg_notify_critical_exit', 'zonecfg_set_root'],
  ],
};

/** Something on this machine is missing: that says nothing about the code. */
class MissingTool extends Error {}

function run(program: string, args: readonly string[]): { ok: boolean; out: string; err: string } {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (error !== undefined) {
    throw new MissingTool(`${program}: ${messageOf(error)}`);
  }
  return { ok: status === 0, out: stdout, err: stderr };
}

/** @returns whether it compiled without a word */
function compile(source: string, standard: string, includes: string, object: string): boolean {
  const builtin = join(run('clang', ['-print-resource-dir']).out.trim(), 'include');
  const headers = [builtin, includes, NODE_HEADERS].flatMap((directory) => ['-isystem', directory]);
  const { ok, err } = run('clang', [
    `--target=${TARGET}`,
    ...['-c', '-fPIC', `-std=${standard}`, ...WARNINGS, '-nostdinc', ...headers, ...DEFINES],
    ...['-o', object, join(NATIVE, source)],
  ]);
  process.stderr.write(err);
  return ok && err === '';
}

/** Symbols that the objects name and none of them has. */
function undefinedSymbols(objects: readonly string[]): string[] {
  const names = (flag: string): string[] =>
    run('nm', [flag, '-P', ...objects])
      .out.split('\n')
      .filter((line) => !line.endsWith(':'))
      .map((line) => line.split(' ')[0] ?? '')
      .filter((name) => name !== '');
  const own = new Set(names('--defined-only'));
  return [...new Set(names('-u'))].filter((name) => !own.has(name)).sort();
}

/** Prints each library with what is asked of it. @returns symbols that are in no list */
function tellLibraries(symbols: readonly string[]): string[] {
  const node = symbols.filter((name) => OF_NODE.test(name));
  console.log(`node: ${node.length} of Node-API and libuv`);
  const known = new Set(node);
  for (const [library, exported] of Object.entries(LIBRARIES)) {
    const asked = symbols.filter((name) => exported.includes(name));
    asked.forEach((name) => known.add(name));
    console.log(`${library}: ${asked.join(' ')}`);
  }
  return symbols.filter((name) => !known.has(name));
}

function check(includes: string): number {
  if (!existsSync(join(includes, 'sys/types.h'))) {
    throw new MissingTool(`${includes}: no sys/types.h: not an include directory`);
  }
  const directory = mkdtempSync(join(tmpdir(), 'check-illumos-'));
  try {
    const sources = readdirSync(NATIVE).filter((name) => name.endsWith('.c'));
    const objects = sources.map((source) => join(directory, source.replace(/c$/, 'o')));
    const failed = sources.filter((source, at) =>
      // Every standard is tried, whatever the one before said.
      STANDARDS.map((std) => compile(source, std, includes, objects[at] ?? '')).includes(false),
    );
    if (failed.length > 0) {
      console.log(`not compiled for illumos: ${failed.join(' ')}`);
      return 1;
    }
    console.log(`${sources.length} files compiled as ${STANDARDS.join(' and ')}`);
    const unknown = tellLibraries(undefinedSymbols(objects));
    if (unknown.length > 0) {
      console.log(`in no list of tools/check-illumos.ts: ${unknown.join(' ')}`);
      return 1;
    }
    return 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

try {
  const command = new Command('check:illumos')
    .description("compiles the addon for illumos and lists the libraries' symbols that it needs")
    .version(packageVersion(), '--version', 'print the version')
    .argument('<include_dir>', "a copy of an illumos system's /usr/include")
    .exitOverride()
    .parse();
  process.exitCode = check(resolve(command.args[0] ?? ''));
} catch (err) {
  if (!(err instanceof CommanderError)) {
    process.stderr.write(`check:illumos: ${messageOf(err)}\n`);
  }
  process.exitCode = err instanceof CommanderError && err.exitCode === 0 ? 0 : 2;
}
