/*
 * Makes a fresh clone ready: installs the packages and builds, each only where it is not done yet. Before
 * anything is installed it says what the machine lacks, by the names of Debian and pkgsrc. With --check it does
 * only that. With --run it prepares what running the programs takes, which is half of it: not the packages that
 * only lint and tests use (devDependencies), and not the tests; what a later call needs beside it is added then.
 * Plain JavaScript, as it must run before anything is installed or built.
 *
 * Each step is one line with its elapsed time. A step that fails shows the end of its output and ends the
 * program with status 1.
 */
'use strict';
const { spawn } = require('node:child_process');
const { createHash } = require('node:crypto');
const { accessSync, closeSync, constants, existsSync, mkdtempSync, openSync } = require('node:fs');
const { readFileSync, rmSync, statSync, writeFileSync } = require('node:fs');
const { homedir, tmpdir } = require('node:os');
const { delimiter, dirname, join } = require('node:path');
const { engines } = require('../package.json');

const TOP = join(__dirname, '..');
const COMPILE = join(__dirname, 'compile.js');
/** What is installed: the set of packages, and the lock file and Node that they are of. */
const STAMP = join(TOP, 'node_modules', '.mdatad-installed');
/** The oldest Node that mdatad runs on: major, minor. */
const LEAST_NODE = /(\d+)\.(\d+)/.exec(engines.node).slice(1).map(Number);
/** Enough of a failed step's output to see why; the whole of it is in the file that is named. */
const LAST_LINES = 25;
const QUIET = ['--no-fund', '--no-audit', '--loglevel=error'];
/** Packages with native code that is used here; the install scripts of others need not run. */
const COMPILED_PACKAGES = ['ffi-napi', '@2060.io/ref-napi'];
/** For packages whose code runs a few times a minute: -O3, their own choice, takes a third longer to compile. */
const COMPILER_FLAGS = '-O1';
const CLEAR_LINE = '\r\u001b[K';

/** Names of the steps that are under way. */
const running = new Set();

/**
 * The programs that an installation runs. `names`: found without being told. `others`: will do as well, and the
 * variable names them to node-gyp then; a path is one below the prefix of Node, where pkgsrc puts what it keeps out
 * of the search path. Where the variable is set, it names the program.
 */
const PROGRAMS = [
  { what: 'npm', names: ['npm'], others: [], debian: 'npm', pkgsrc: 'npm' },
  {
    what: 'a C compiler',
    names: ['cc'],
    others: ['gcc', 'clang', 'gcc13/bin/gcc'],
    variable: 'CC',
    debian: 'gcc',
    pkgsrc: 'gcc13',
  },
  {
    what: 'a C++ compiler',
    names: ['g++'],
    others: ['c++', 'clang++', 'gcc13/bin/g++'],
    variable: 'CXX',
    debian: 'g++',
    pkgsrc: 'gcc13',
  },
  {
    what: 'GNU make',
    names: ['make'],
    // It is the platform's own there, which cannot read what node-gyp writes.
    notOn: 'sunos',
    others: ['gmake'],
    variable: 'MAKE',
    debian: 'make',
    pkgsrc: 'gmake',
  },
  {
    what: 'Python 3',
    names: ['python3'],
    others: ['python3.12', 'python3.13', 'python3.11'],
    variable: 'PYTHON',
    debian: 'python3',
    pkgsrc: 'python312',
  },
];

/**
 * What this machine lacks, one line each; empty when nothing is.
 * @param {{version: string, path: string, env: Record<string, string | undefined>, platform: string, prefix: string, headers: readonly string[]}} machine
 *   Node's version as `20.15.0`, the search path, the environment, `sunos` or `linux`, the directory that Node was
 *   installed in, and the directories that may hold Node's headers
 */
function missing(machine) {
  const { version, headers } = machine;
  const lacks = [];
  const [major, minor] = version.split('.').map(Number);
  if (major < LEAST_NODE[0] || (major === LEAST_NODE[0] && minor < LEAST_NODE[1])) {
    lacks.push(
      lack(`Node ${LEAST_NODE.join('.')} or later (this is ${version})`, 'nodejs', 'nodejs'),
    );
  }
  for (const program of PROGRAMS) {
    const { what, variable, debian, pkgsrc } = program;
    if (programOf(program, machine) === undefined) {
      const or = variable === undefined ? '' : `, or name it: ${variable}=PATH`;
      lacks.push(`${lack(what, debian, pkgsrc)}${or}`);
    }
  }
  const directory = headers.find((each) => headersOf(each) === major);
  if (directory === undefined) {
    const where = 'or name their directory: npm_config_nodedir=DIR, with DIR/include/node/node.h';
    lacks.push(`${lack(`the headers of Node ${major}`, 'libnode-dev', 'nodejs')}, ${where}`);
  } else if (uvFlags(directory) === undefined) {
    lacks.push(lack(`the headers of libuv (uv.h in ${directory}/include)`, 'libuv1-dev', 'libuv'));
  }
  return lacks;
}

/** What the environment has to say for node-gyp to find the programs: only those that it would not find. */
function settingsOf(machine) {
  return Object.fromEntries(
    PROGRAMS.flatMap((program) => {
      const found = programOf(program, machine);
      const isToldAlready = machine.env[program.variable] !== undefined;
      return found !== undefined && !namesOf(program, machine).includes(found) && !isToldAlready
        ? [[program.variable, found]]
        : [];
    }),
  );
}

/** A name or a path of the program; undefined where it is not there. */
function programOf(program, machine) {
  const { path, env, prefix } = machine;
  const [given] = (env[program.variable] ?? '').split(' ');
  const others = program.others.map((name) => (name.includes('/') ? join(prefix, name) : name));
  const names = [given, ...namesOf(program, machine), ...others];
  return names.find((name) => name && isProgram(name, path));
}

function namesOf({ names, notOn }, { platform }) {
  return platform === notOn ? [] : names;
}

/**
 * The compiler's flags for uv.h; undefined where there is none. A Node that shares its libuv with other programs,
 * as that of pkgsrc, has it beside its own headers and not among them.
 */
function uvFlags(directory) {
  const include = join(directory, 'include');
  if (existsSync(join(include, 'node', 'uv.h'))) {
    return '';
  }
  return existsSync(join(include, 'uv.h')) ? `-I${include}` : undefined;
}

/** Both variables of the compilers' flags, with `own` where the environment has none. */
function compilerFlags(env, flags, own = '') {
  const of = (given) => [given ?? own, flags].filter((part) => part !== '').join(' ');
  return { CFLAGS: of(env.CFLAGS), CXXFLAGS: of(env.CXXFLAGS) };
}

function lack(what, debian, pkgsrc) {
  return `${what}: Debian ${debian}, pkgsrc ${pkgsrc}`;
}

function isProgram(name, path) {
  const files = name.includes('/') ? [name] : path.split(delimiter).map((dir) => join(dir, name));
  return files.some((file) => {
    try {
      accessSync(file, constants.X_OK);
      return statSync(file).isFile();
    } catch {
      return false; // Not there, or not to be run: the next directory may have it.
    }
  });
}

/** Major version of the headers below a directory; undefined when it has none. */
function headersOf(directory) {
  try {
    const text = readFileSync(join(directory, 'include', 'node', 'node_version.h'), 'utf8');
    return Number(/^#define NODE_MAJOR_VERSION (\d+)/m.exec(text)?.[1]);
  } catch {
    return undefined; // That is what is asked.
  }
}

/** Where node-gyp finds headers without a network: --nodedir, beside the running Node, or its own cache. */
function headerDirectories() {
  const { npm_config_nodedir: given, npm_config_devdir: cache } = process.env;
  const caches = [cache, join(homedir(), '.cache', 'node-gyp')].filter((dir) => dir !== undefined);
  return [
    ...(given === undefined ? [] : [given]),
    dirname(dirname(process.execPath)),
    ...caches.map((dir) => join(dir, process.versions.node)),
  ];
}

/** Runs a program; its output is shown only when it fails, and then it ends the program. */
async function step(name, [program, ...args], env = process.env) {
  const started = performance.now();
  const directory = mkdtempSync(join(tmpdir(), 'mdatad-setup-'));
  const output = join(directory, 'output');
  const fd = openSync(output, 'w');
  running.add(name);
  showRunning();
  const child = spawn(program, args, { cwd: TOP, env, stdio: ['ignore', fd, fd] });
  closeSync(fd);
  const fault = await new Promise((done) => {
    child.on('error', (err) => done(err.message));
    child.on('exit', (code, signal) => done(code === 0 ? '' : (signal ?? `exit status ${code}`)));
  });
  running.delete(name);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const line = `set-up: ${name}: ${fault === '' ? `${seconds} s` : `failed after ${seconds} s`}`;
  process.stdout.write(`${process.stdout.isTTY ? CLEAR_LINE : ''}${line}\n`);
  showRunning();
  if (fault === '') {
    rmSync(directory, { recursive: true });
    return;
  }
  const lines = readFileSync(output, 'utf8').trimEnd().split('\n');
  // Where node-gyp's own code was says nothing of ours.
  const told = lines.filter((line) => !/^gyp ERR! stack/.test(line));
  process.stderr.write(`${told.slice(-LAST_LINES).join('\n')}\n`);
  process.stderr.write(
    `set-up: ${[program, ...args].join(' ')}: ${fault}; its whole output: ${output}\n`,
  );
  process.exit(1);
}

/** On a terminal the last line says what is being done. */
function showRunning() {
  if (process.stdout.isTTY && running.size > 0) {
    process.stdout.write(`${CLEAR_LINE}set-up: ${[...running].join(', ')} ...`);
  }
}

async function main() {
  const { versions, env } = process;
  const beside = dirname(dirname(process.execPath));
  const headers = headerDirectories();
  const { node: version } = versions;
  const path = env.PATH ?? '';
  const { platform } = process;
  const machine = { version, path, env, platform, prefix: beside, headers };
  const lacks = missing(machine);
  if (lacks.length > 0) {
    process.stderr.write(
      `set-up: this machine lacks\n${lacks.map((line) => `  ${line}\n`).join('')}`,
    );
    process.exit(1);
  }
  if (process.argv.includes('--check')) {
    return;
  }
  Object.assign(env, settingsOf(machine));
  if (env.npm_config_nodedir === undefined && headersOf(beside) !== undefined) {
    // Else node-gyp would download what is here already.
    env.npm_config_nodedir = beside;
  }
  const major = Number(versions.node.split('.')[0]);
  const flags = uvFlags(headers.find((each) => headersOf(each) === major));
  // How many jobs node-gyp gives to make.
  env.JOBS ??= 'max';
  const lock = readFileSync(join(TOP, 'package-lock.json'), 'utf8');
  const plan = planOf({
    stamp: existsSync(STAMP) ? readFileSync(STAMP, 'utf8') : '',
    version: createHash('sha256').update(lock).update(process.version).digest('hex'),
    onlyRun: process.argv.includes('--run') && hasNativeCompiler(lock),
  });
  if (plan.install !== null) {
    // What they compile is compiled below, beside our own.
    await step('install the packages', ['npm', ...plan.install, '--ignore-scripts', ...QUIET]);
  }
  await Promise.all([
    plan.compilesPackages ? compilePackages(flags) : undefined,
    step('compile the native code', ['npm', 'run', '--loglevel=error', 'build:native'], {
      ...env,
      ...(flags !== '' && compilerFlags(env, flags)),
    }),
    step('compile TypeScript', [process.execPath, ...plan.compile]),
  ]);
  writeFileSync(STAMP, plan.stamp);
}

/**
 * What there is to do.
 * @param {{stamp: string, version: string, onlyRun: boolean}} state what the last set-up left, empty where there
 *   was none; what it would have left were it up to date; whether running the programs is all that is wanted
 */
function planOf({ stamp, version, onlyRun }) {
  const [set, of] = stamp.split(' ');
  const isInstalled = of === version;
  // What is there is kept and compiled: nothing is removed because less would do.
  const wanted = onlyRun && !(isInstalled && set === 'all') ? 'run' : 'all';
  const first = wanted === 'run' ? ['ci', '--omit=dev'] : ['ci'];
  const missingOnly = set === wanted ? null : ['install', '--no-save'];
  return {
    install: isInstalled ? missingOnly : first,
    compilesPackages: !isInstalled,
    compile: wanted === 'run' ? [COMPILE, '--project', 'tsconfig.programs.json'] : [COMPILE],
    stamp: `${wanted} ${version}`,
  };
}

/** Whether a native TypeScript compiler is published for this platform; else lint's compiler must be installed. */
function hasNativeCompiler(lock) {
  const name = `node_modules/@typescript/typescript-${process.platform}-${process.arch}`;
  return name in JSON.parse(lock).packages;
}

function compilePackages(flags) {
  // Not for our own native code: other flags than those of the next `npm run build:native` would compile it twice.
  const env = { ...process.env, ...compilerFlags(process.env, flags, COMPILER_FLAGS) };
  return step('compile their native code', ['npm', 'rebuild', ...QUIET, ...COMPILED_PACKAGES], env);
}

if (require.main === module) {
  void main();
}
module.exports = { compilerFlags, missing, planOf, settingsOf, uvFlags };
