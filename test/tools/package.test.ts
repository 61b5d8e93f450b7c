import assert from 'node:assert';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tarOf, type TarEntry } from '../../tools/package/tar';
import { TOP } from '../support/manifest';
import { BUILT, makePackage } from '../support/smf-package';

describe('the package program', function () {
  this.timeout(60_000);

  let directory = '';
  let unpacked = '';
  let tarball = '';

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    ({ unpacked, tarball } = makePackage(directory));
  });

  after(() => rmSync(directory, { recursive: true }));

  function pack(...args: string[]): { status: number | null; stdout: string; stderr: string } {
    const program = join(BUILT, 'tools/package.js');
    const top = join(directory, 'checkout');
    return spawnSync(process.execPath, [program, '--top', top, '--out', directory, ...args], {
      encoding: 'utf8',
    });
  }

  function listed(...args: string[]): string[] {
    const { status, stdout, stderr } = pack('--list', ...args);
    assert.strictEqual(status, 0, stderr);
    return stdout
      .trimEnd()
      .split('\n')
      .map((path) => path.slice(path.indexOf('/') + 1));
  }

  it('makes the same bytes of the same checkout', () => {
    const before = readFileSync(tarball);
    assert.strictEqual(pack().status, 0);
    assert(before.equals(readFileSync(tarball)));
  });

  it('lists with --list what the tarball holds, and writes nothing', () => {
    const before = readFileSync(tarball);
    rmSync(tarball);
    const list = listed();
    assert.throws(() => readFileSync(tarball));
    writeFileSync(tarball, before);
    const inside = execFileSync('tar', ['tzf', tarball], { encoding: 'utf8' })
      .trimEnd()
      .split('\n')
      .filter((path) => !path.endsWith('/'))
      .map((path) => path.slice(path.indexOf('/') + 1));
    assert.deepStrictEqual(list, inside.sort());
  });

  it('says with --dry-run what would be made, and writes nothing', () => {
    const before = readFileSync(tarball);
    rmSync(tarball);
    const { status, stdout } = pack('--dry-run');
    assert.throws(() => readFileSync(tarball));
    writeFileSync(tarball, before);
    assert.strictEqual(status, 0);
    assert(
      stdout.startsWith(`would make ${tarball} (${Math.ceil(before.length / 1024)} KiB)`),
      stdout,
    );
    assert.match(stdout, new RegExp(`^${listed().length} files:$`, 'm'));
    assert.match(stdout, /^ {2}node_modules\/ffi-napi +\d+ files +\d+ KiB$/m);
  });

  it('holds what a node needs, and nothing of tests or development', () => {
    const list = listed();
    const wanted = [
      'LICENSE',
      'README.md',
      'RELEASE',
      'bin/mdata-get',
      'bin/mdatad',
      'completion/mdatad.bash',
      'completion/mdatad.zsh',
      'dist/src/bundle/mdatad.js',
      'dist/tools/smf/launch.js',
      'man/man1/mdata-get.1',
      'man/man8/mdatad.8',
      'native/build/Release/mdatad.node',
      'native/build/Release/zone_root',
      'node_modules/commander/package.json',
      'node_modules/ffi-napi/build/Release/ffi_bindings.node',
      'smf/README.md',
      'smf/install',
      'smf/mdatad.json.example',
      'smf/mdatad.xml',
      'smf/rollback',
      'smf/stand-in.svccfg',
    ];
    assert.deepStrictEqual(
      wanted.filter((path) => !list.includes(path)),
      [],
    );
    const unwanted =
      /(^dist\/test|^dist\/tools\/(package|simcn)|^bin\/simcn|node_modules\/(mocha|typescript)|\.map$|obj\.target|\.(c|cc|h|gyp)$|^node_modules\/.*\/(deps|test|tests)\/)/;
    assert.deepStrictEqual(
      list.filter((path) => unwanted.test(path)),
      [],
    );
  });

  it('has platform and ABI of Node in its name and a checksum beside it', () => {
    const { platform, arch, versions } = process;
    const name = new RegExp(
      `/mdatad-\\d+\\.\\d+\\.\\d+-${platform}-${arch}-abi${versions.modules}\\.tgz$`,
    );
    assert.match(tarball, name);
    const sums = execFileSync('sha256sum', ['-c', `${tarball}.sha256`], {
      encoding: 'utf8',
      cwd: directory,
    });
    assert.match(sums, /: OK$/m);
  });

  it('takes all packages of production from the lock file of this checkout, and none other', () => {
    const top = join(directory, 'checkout');
    const few = readFileSync(join(top, 'package-lock.json'), 'utf8');
    writeFileSync(
      join(top, 'package-lock.json'),
      readFileSync(join(TOP, 'package-lock.json'), 'utf8'),
    );
    try {
      const list = listed();
      for (const name of ['bunyan', 'commander', 'ffi-napi', 'prom-client', 'vasync']) {
        assert(list.includes(`node_modules/${name}/package.json`), name);
      }
      for (const name of [
        'eslint',
        'zod',
        'mv',
        'moment',
        'dtrace-provider',
        'safe-json-stringify',
      ]) {
        assert(!list.some((path) => path.startsWith(`node_modules/${name}/`)), name);
      }
    } finally {
      writeFileSync(join(top, 'package-lock.json'), few);
    }
  });

  it('has every package that a program in it loads', () => {
    const args = ['--top', TOP, '--out', directory, '--list'];
    const program = join(BUILT, 'tools/package.js');
    const { stdout } = spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' });
    const list = new Set(stdout.split('\n').map((path) => path.slice(path.indexOf('/') + 1)));
    const programs = [...list].filter((path) => /^dist\/.*\.js$/.test(path));
    assert(programs.includes('dist/tools/smf/preflight.js'));
    for (const path of programs) {
      const text = readFileSync(join(TOP, path), 'utf8');
      for (const [, name = ''] of text.matchAll(/\brequire\("([^".][^"]*)"\)/g)) {
        assert(
          isBuiltin(name) || list.has(`node_modules/${name}/package.json`),
          `${path}: ${name}`,
        );
      }
    }
  });

  it('refuses a target that it has no native code for', () => {
    const before = readFileSync(tarball);
    const { status, stderr } = pack('--target', 'sunos-x64');
    assert.strictEqual(status, 1);
    assert.match(
      stderr,
      /^package: --target sunos-x64: this checkout was built on .* no native code/,
    );
    assert(before.equals(readFileSync(tarball)));
  });

  it('puts the libraries that the Node of --node brings beside it, and says where they are', () => {
    const tree = join(directory, 'linked-tree');
    mkdirSync(join(tree, 'bin'), { recursive: true });
    mkdirSync(join(tree, 'lib'));
    writeFileSync(join(directory, 'lib.c'), 'int own(void) { return 0; }');
    writeFileSync(join(directory, 'node.c'), 'int own(void); int main(void) { return own(); }');
    const [library, unused] = [join(tree, 'lib/libown.so.1'), join(tree, 'lib/libother.so.1')];
    execFileSync('cc', [
      '-shared',
      '-fPIC',
      '-Wl,-soname,libown.so.1',
      '-o',
      library,
      join(directory, 'lib.c'),
    ]);
    writeFileSync(unused, '');
    execFileSync('cc', [
      '-o',
      join(tree, 'bin/node'),
      join(directory, 'node.c'),
      library,
      `-Wl,-rpath,${tree}/lib`,
    ]);
    const list = listed('--node', tree).filter((path) => path.startsWith('node/'));
    assert.deepStrictEqual(list, ['node/bin/node', 'node/lib/libown.so.1']);
    const release = join(directory, 'linked-release');
    cpSync(tree, join(release, 'node'), { recursive: true });
    const script = `. '${join(TOP, 'smf/lib/node.sh')}'; find_node '${release}' /none; echo $LD_LIBRARY_PATH_64`;
    const found = execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
    assert.strictEqual(found, `${release}/node/lib\n`);
  });

  it('puts the Node of --node in, and says that it does', () => {
    const tree = join(directory, 'node-tree');
    mkdirSync(join(tree, 'bin'), { recursive: true });
    mkdirSync(join(tree, 'share'), { recursive: true });
    writeFileSync(join(tree, 'bin/node'), '#!/bin/sh\n');
    chmodSync(join(tree, 'bin/node'), 0o755);
    writeFileSync(join(tree, 'share/doc'), '');
    const list = listed('--node', tree);
    assert(list.includes('node/bin/node'));
    assert(!list.includes('node/share/doc'));
    const { status, stderr } = pack('--node', '/nonexistent');
    assert.strictEqual(status, 1);
    assert.match(stderr, /--node \/nonexistent: there is no \/nonexistent\/bin\/node/);
  });

  it('says what is to be built when it is not', () => {
    const { status, stderr } = pack('--top', join(directory, 'node-tree'));
    assert.strictEqual(status, 1);
    assert.notStrictEqual(stderr, '');
    rmSync(join(directory, 'checkout/dist/src/bundle/mdatad.js'));
    assert.match(pack().stderr, /dist\/src\/bundle\/mdatad\.js is missing: run npm run build/);
  });

  it('keeps the scripts and commands executable', () => {
    const modes = execFileSync('tar', ['tvzf', tarball], { encoding: 'utf8' });
    for (const path of ['smf/install', 'smf/method/mdatad', 'bin/mdatactl']) {
      assert.match(modes, new RegExp(`^-rwxr-xr-x root/root .* \\S+/${path}$`, 'm'));
    }
    assert.match(
      readFileSync(join(unpacked, 'RELEASE'), 'utf8'),
      /^id=\d+\.\d+\.\d+-[0-9a-f]{8}$/m,
    );
  });
});

describe('a tar', () => {
  const file = (path: string, data: string): TarEntry => {
    return { kind: 'file', path, mode: 0o644, data: Buffer.from(data) };
  };

  it('is read by tar(1) as it was written: long names, links, empty and block-sized files', () => {
    const directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    try {
      const long = `${'a'.repeat(90)}/${'b'.repeat(90)}`;
      const entries: TarEntry[] = [
        file(long, 'long'),
        file('z/empty', ''),
        file('z/block', 'x'.repeat(512)),
        file('z/more', 'x'.repeat(513)),
        { kind: 'link', path: 'z/link', target: 'block' },
      ];
      const archive = join(directory, 'a.tar');
      writeFileSync(archive, tarOf(entries));
      execFileSync('tar', ['xf', archive, '-C', directory]);
      assert.strictEqual(readFileSync(join(directory, long), 'utf8'), 'long');
      assert.strictEqual(readFileSync(join(directory, 'z/empty'), 'utf8'), '');
      assert.strictEqual(readFileSync(join(directory, 'z/link'), 'utf8').length, 512);
      assert.strictEqual(readFileSync(join(directory, 'z/more'), 'utf8').length, 513);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('does not depend on the order of its entries', () => {
    const [a, b] = [file('x/a', '1'), file('y', '2')];
    assert(tarOf([a, b]).equals(tarOf([b, a])));
  });

  it('refuses a name that it cannot hold', () => {
    assert.throws(() => tarOf([file('n'.repeat(101), '')]), /too long for a tar/);
  });
});
