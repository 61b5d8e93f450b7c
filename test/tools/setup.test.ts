import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { TOP } from '../support/manifest';

const tools = createRequire(join(TOP, 'tools', 'setup.js'));

interface Machine {
  version: string;
  path: string;
  env: Record<string, string>;
  platform: string;
  prefix: string;
  headers: string[];
}

describe('set-up', () => {
  const { missing, settingsOf, uvFlags, compilerFlags } = tools('./setup.js') as {
    missing: (machine: Machine) => string[];
    settingsOf: (machine: Machine) => Record<string, string>;
    uvFlags: (directory: string) => string | undefined;
    compilerFlags: (env: Record<string, string>, flags: string, own?: string) => object;
  };
  let directory = '';
  let machine: Machine;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'setup-'));
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    ['npm', 'cc', 'g++', 'make', 'python3'].forEach((name) => putProgram(`bin/${name}`));
    mkdirSync(join(directory, 'include/node'), { recursive: true });
    writeFileSync(
      join(directory, 'include/node/node_version.h'),
      '#define NODE_MAJOR_VERSION 22\n',
    );
    writeFileSync(join(directory, 'include/node/uv.h'), '');
    const installed = { platform: 'linux', prefix: directory, headers: [directory] };
    machine = { version: '22.4.0', path: bin, env: {}, ...installed };
  });

  function putProgram(path: string): void {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), '#!/bin/sh\n');
    chmodSync(join(directory, path), 0o755);
  }

  afterEach(() => rmSync(directory, { recursive: true }));

  it('misses nothing on a machine that has all', () => {
    assert.deepStrictEqual(missing(machine), []);
  });

  it('names each thing that is missing, with its package of Debian and of pkgsrc', () => {
    rmSync(join(directory, 'bin'), { recursive: true });
    const lacks = missing({ ...machine, version: '20.14.9', headers: [] });
    const pattern = /^(.+): Debian ([\w+-]+), pkgsrc (\w+)/;
    const named = lacks.map((line) => pattern.exec(line)?.slice(1, 4) ?? [line]);
    assert.deepStrictEqual(named, [
      ['Node 20.15 or later (this is 20.14.9)', 'nodejs', 'nodejs'],
      ['npm', 'npm', 'npm'],
      ['a C compiler', 'gcc', 'gcc13'],
      ['a C++ compiler', 'g++', 'gcc13'],
      ['GNU make', 'make', 'gmake'],
      ['Python 3', 'python3', 'python312'],
      ['the headers of Node 20', 'libnode-dev', 'nodejs'],
    ]);
  });

  it('does not take a C compiler for a C++ compiler, nor headers of another Node for its own', () => {
    rmSync(join(directory, 'bin/g++'));
    const lacks = missing({ ...machine, version: '24.1.0' });
    assert.strictEqual(lacks.length, 2);
    assert.match(lacks[0] ?? '', /^a C\+\+ compiler/);
    assert.match(lacks[1] ?? '', /^the headers of Node 24/);
  });

  it('finds what pkgsrc keeps elsewhere, and names it to node-gyp', () => {
    assert.deepStrictEqual(settingsOf(machine), {});
    ['cc', 'g++', 'python3'].forEach((name) => rmSync(join(directory, 'bin', name)));
    const programs = ['gcc13/bin/gcc', 'gcc13/bin/g++', 'bin/gmake', 'bin/python3.12'];
    programs.forEach(putProgram);
    const zone = { ...machine, platform: 'sunos' };
    assert.deepStrictEqual(missing(zone), []);
    const named = {
      CC: join(directory, 'gcc13/bin/gcc'),
      CXX: join(directory, 'gcc13/bin/g++'),
      MAKE: 'gmake',
      PYTHON: 'python3.12',
    };
    assert.deepStrictEqual(settingsOf(zone), named);
    const env = { CC: join(directory, 'bin/gmake') };
    assert.deepStrictEqual(settingsOf({ ...zone, env }), {
      ...{ CXX: named.CXX, MAKE: named.MAKE, PYTHON: named.PYTHON },
    });
  });

  it("does not take the make of SmartOS for GNU's, and says which variable names another program", () => {
    const lacks = missing({ ...machine, platform: 'sunos' });
    assert.deepStrictEqual(lacks, ['GNU make: Debian make, pkgsrc gmake, or name it: MAKE=PATH']);
  });

  it('finds uv.h where it lies beside the headers of Node, and says where it is missing', () => {
    assert.strictEqual(uvFlags(directory), '');
    renameSync(join(directory, 'include/node/uv.h'), join(directory, 'include/uv.h'));
    const flags = `-I${directory}/include`;
    assert.strictEqual(uvFlags(directory), flags);
    assert.deepStrictEqual(missing(machine), []);
    assert.deepStrictEqual(compilerFlags({}, flags, '-O1'), {
      CFLAGS: `-O1 ${flags}`,
      CXXFLAGS: `-O1 ${flags}`,
    });
    assert.deepStrictEqual(compilerFlags({ CFLAGS: '-g' }, flags), {
      CFLAGS: `-g ${flags}`,
      CXXFLAGS: flags,
    });
    rmSync(join(directory, 'include/uv.h'));
    const [lack = '', ...others] = missing(machine);
    assert.deepStrictEqual(others, []);
    assert.match(
      lack,
      /^the headers of libuv \(uv\.h in .*\/include\): Debian libuv1-dev, pkgsrc libuv$/,
    );
  });

  it('compiles with the headers of a Node that keeps uv.h elsewhere', () => {
    renameSync(join(directory, 'include/node/uv.h'), join(directory, 'include/uv.h'));
    const recorded = join(directory, 'recorded');
    // Stands in for all that is run: notes what the compilers would be told.
    const npm = `#!/bin/sh\necho "$* CFLAGS=$CFLAGS CXXFLAGS=$CXXFLAGS" >>'${recorded}'\n`;
    writeFileSync(join(directory, 'bin/npm'), npm);
    const major = process.versions.node.split('.')[0] ?? '';
    const header = `#define NODE_MAJOR_VERSION ${major}\n`;
    writeFileSync(join(directory, 'include/node/node_version.h'), header);
    const copy = join(directory, 'checkout');
    mkdirSync(join(copy, 'tools'), { recursive: true });
    mkdirSync(join(copy, 'node_modules'));
    for (const file of ['package.json', 'package-lock.json', 'tools/setup.js']) {
      copyFileSync(join(TOP, file), join(copy, file));
    }
    writeFileSync(join(copy, 'tools/compile.js'), '');
    const { status, stderr } = spawnSync(process.execPath, [join(copy, 'tools/setup.js')], {
      encoding: 'utf8',
      env: { PATH: `${machine.path}:/usr/bin:/bin`, npm_config_nodedir: directory },
    });
    assert.strictEqual(status, 0, stderr);
    const calls = readFileSync(recorded, 'utf8');
    const include = `-I${directory}/include`;
    assert(calls.includes(`build:native CFLAGS=${include} CXXFLAGS=${include}\n`), calls);
    assert(calls.includes(`ref-napi CFLAGS=-O1 ${include} CXXFLAGS=-O1 ${include}\n`), calls);
  });

  it('takes the compiler that CC names', () => {
    rmSync(join(directory, 'bin/cc'));
    writeFileSync(join(directory, 'my-cc'), '#!/bin/sh\n');
    chmodSync(join(directory, 'my-cc'), 0o755);
    assert.strictEqual(missing(machine).length, 1);
    assert.deepStrictEqual(
      missing({ ...machine, env: { CC: `${join(directory, 'my-cc')} -m64` } }),
      [],
    );
  });

  it('ends before anything is installed, without a stack', () => {
    const npm = join(directory, 'only-npm');
    mkdirSync(npm);
    writeFileSync(join(npm, 'npm'), `#!/bin/sh\ntouch '${directory}/called'\n`);
    chmodSync(join(npm, 'npm'), 0o755);
    const program = join(TOP, 'tools', 'setup.js');
    const { status, stderr } = spawnSync(process.execPath, [program], {
      encoding: 'utf8',
      env: { PATH: npm },
    });
    assert.strictEqual(status, 1);
    assert.match(
      stderr,
      /^set-up: this machine lacks\n {2}a C compiler: Debian gcc, pkgsrc gcc13, or name it: CC=PATH\n/,
    );
    assert.doesNotMatch(stderr, /^ {4}at /m);
    assert(!readdirSync(directory).includes('called'));
  });
});

describe('what set-up does', () => {
  interface Plan {
    install: string[] | null;
    compilesPackages: boolean;
    compile: string[];
    stamp: string;
  }
  const { planOf } = tools('./setup.js') as {
    planOf: (state: { stamp: string; version: string; onlyRun: boolean }) => Plan;
  };
  const none = { install: null, compilesPackages: false };

  it('leaves out what lint and tests need where the programs only have to run', () => {
    const run = planOf({ stamp: '', version: 'v1', onlyRun: true });
    assert.deepStrictEqual(run.install, ['ci', '--omit=dev']);
    assert(run.compile.includes('tsconfig.programs.json'));
    const all = planOf({ stamp: '', version: 'v1', onlyRun: false });
    assert.deepStrictEqual(all.install, ['ci']);
    assert.deepStrictEqual(all.compile, [join(TOP, 'tools', 'compile.js')]);
    assert(run.compilesPackages && all.compilesPackages);
  });

  it('installs nothing the second time', () => {
    for (const onlyRun of [true, false]) {
      const { stamp } = planOf({ stamp: '', version: 'v1', onlyRun });
      const { install, compilesPackages, stamp: after } = planOf({ stamp, version: 'v1', onlyRun });
      assert.deepStrictEqual({ install, compilesPackages }, none);
      assert.strictEqual(after, stamp);
    }
  });

  it('adds only what is missing for tests, and compiles no package again', () => {
    const { stamp } = planOf({ stamp: '', version: 'v1', onlyRun: true });
    const plan = planOf({ stamp, version: 'v1', onlyRun: false });
    assert.deepStrictEqual(plan.install, ['install', '--no-save']);
    assert(!plan.compilesPackages);
    assert(!plan.compile.includes('tsconfig.programs.json'));
  });

  it('keeps everything where it is there already', () => {
    const { stamp } = planOf({ stamp: '', version: 'v1', onlyRun: false });
    assert.deepStrictEqual(
      planOf({ stamp, version: 'v1', onlyRun: true }),
      planOf({ stamp, version: 'v1', onlyRun: false }),
    );
  });

  it('installs again after the lock file or Node has changed', () => {
    const { stamp } = planOf({ stamp: '', version: 'v1', onlyRun: false });
    const plan = planOf({ stamp, version: 'v2', onlyRun: true });
    assert.deepStrictEqual(plan.install, ['ci', '--omit=dev']);
    assert(plan.compilesPackages);
  });
});

describe('the TypeScript build', () => {
  const { compilerOf } = tools('./compile.js') as {
    compilerOf: (platform: string, arch: string, runs?: () => boolean) => string;
  };

  it('uses the native compiler on this platform, and the other one where there is none', () => {
    assert.strictEqual(compilerOf(process.platform, process.arch), 'typescript7');
    assert.strictEqual(compilerOf('plan9', 'mips'), 'typescript');
  });

  it('uses the other one where the native compiler is installed and does not run', () => {
    const { platform, arch } = process;
    assert.strictEqual(
      compilerOf(platform, arch, () => false),
      'typescript',
    );
  });

  it('leaves the daemon as single files where esbuild does not run, but stops on a fault in them', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'bundle-'));
    mkdirSync(join(directory, 'tools'));
    copyFileSync(join(TOP, 'tools/bundle.js'), join(directory, 'tools/bundle.js'));
    const { bundle } = tools(join(directory, 'tools/bundle.js')) as {
      bundle: (build?: () => Promise<void>) => Promise<void>;
    };
    mkdirSync(join(directory, 'dist/src'), { recursive: true });
    writeFileSync(join(directory, 'dist/src/main.js'), 'console.log("served", process.argv[2]);');
    const fault = Object.assign(new Error('Build failed'), { errors: [] });
    await assert.rejects(
      bundle(() => Promise.reject(fault)),
      fault,
    );
    // There is no esbuild beside that copy, as there is none that runs.
    await bundle();
    const daemon = join(directory, 'dist/src/bundle/mdatad.js');
    const { stdout } = spawnSync(process.execPath, [daemon, 'now'], { encoding: 'utf8' });
    assert.strictEqual(stdout, 'served now\n');
    rmSync(directory, { recursive: true });
  });
});

describe('npm test', () => {
  const { argumentsOf } = tools('./test.js') as { argumentsOf: (given: string[]) => string[] };

  /** The files that mocha would run. */
  function specs(...given: string[]): string[] {
    const program = join(TOP, 'node_modules/mocha/bin/mocha.js');
    const argv = [program, ...argumentsOf(given), '--dry-run', '--reporter', 'json'];
    const { stdout } = spawnSync(process.execPath, argv, { encoding: 'utf8', cwd: TOP });
    const { tests } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
      tests: { file: string }[];
    };
    return [...new Set(tests.map(({ file }) => file.slice(TOP.length + 1)))];
  }

  it('runs only the file that --spec names, by its source or by what was built', () => {
    const built = 'dist/test/tools/coverage-floor.test.js';
    assert.deepStrictEqual(specs('--spec', 'test/tools/coverage-floor.test.ts'), [built]);
    assert.deepStrictEqual(specs(`--spec=./${built}`), [built]);
    assert.deepStrictEqual(specs('--spec', join(TOP, 'test/tools/coverage-floor.test.ts')), [
      built,
    ]);
  });

  it('keeps the other options of the configuration, and leaves a call without --spec alone', () => {
    const given = argumentsOf(['--spec', 'test/layers.test.ts', '-g', 'cycles']);
    assert(given.includes('--require=./dist/test/support/hooks.js'));
    assert.deepStrictEqual(given.slice(-3), ['-g', 'cycles', 'dist/test/layers.test.js']);
    assert.deepStrictEqual(argumentsOf(['-g', 'cycles']), ['-g', 'cycles']);
  });
});
