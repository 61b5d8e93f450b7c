import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TOP } from '../support/manifest';

const tools = createRequire(join(TOP, 'tools', 'setup.js'));

interface Machine {
  version: string;
  path: string;
  env: Record<string, string>;
  headers: string[];
}

describe('set-up', () => {
  const { missing } = tools('./setup.js') as { missing: (machine: Machine) => string[] };
  let directory = '';
  let machine: Machine;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'setup-'));
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    for (const name of ['cc', 'c++', 'make', 'python3']) {
      writeFileSync(join(bin, name), '#!/bin/sh\n');
      chmodSync(join(bin, name), 0o755);
    }
    mkdirSync(join(directory, 'include/node'), { recursive: true });
    writeFileSync(
      join(directory, 'include/node/node_version.h'),
      '#define NODE_MAJOR_VERSION 22\n',
    );
    machine = { version: '22.4.0', path: bin, env: {}, headers: [directory] };
  });

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
      ['a C compiler', 'gcc', 'gcc13'],
      ['a C++ compiler', 'g++', 'gcc13'],
      ['make', 'make', 'gmake'],
      ['Python 3', 'python3', 'python312'],
      ['the headers of Node 20', 'libnode-dev', 'nodejs'],
    ]);
  });

  it('does not take a C compiler for a C++ compiler, nor headers of another Node for its own', () => {
    rmSync(join(directory, 'bin/c++'));
    const lacks = missing({ ...machine, version: '24.1.0' });
    assert.strictEqual(lacks.length, 2);
    assert.match(lacks[0] ?? '', /^a C\+\+ compiler/);
    assert.match(lacks[1] ?? '', /^the headers of Node 24/);
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
      /^set-up: this machine lacks\n {2}a C compiler: Debian gcc, pkgsrc gcc13\n/,
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
    compilerOf: (platform: string, arch: string) => string;
  };

  it('uses the native compiler on this platform, and the other one where there is none', () => {
    assert.strictEqual(compilerOf(process.platform, process.arch), 'typescript7');
    assert.strictEqual(compilerOf('plan9', 'mips'), 'typescript');
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
