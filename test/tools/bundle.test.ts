import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const BUNDLE = join(__dirname, '..', '..', 'src', 'bundle', 'mdatad.js');

/** Before the program: prints each module that it loads, or fails to find. */
const PRINT_LOADED = `
const Module = require('node:module');
const load = Module._load;
Module._load = function (name, ...rest) {
  const file = Module.isBuiltin(name) ? '' : name;
  if (file !== '') process.stderr.write(file + '\\n');
  return load.call(this, name, ...rest);
};
`;

describe('the bundled daemon', () => {
  const directory = mkdtempSync(join(tmpdir(), 'mdatad-bundle-'));
  after(() => rmSync(directory, { recursive: true }));

  it('loads no other file but native code', () => {
    const hook = join(directory, 'hook.js');
    writeFileSync(hook, PRINT_LOADED);
    const argv = ['--require', hook, BUNDLE, '--check-config'];
    const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
    assert.strictEqual(stdout, 'mdatad: configuration OK\n');
    assert.strictEqual(status, 0);
    const [program, ...loaded] = stderr.trimEnd().split('\n');
    assert.strictEqual(program, BUNDLE);
    // The loader of native packages reads their package.json too.
    const native =
      /^\/.*(\.node|\/node_modules\/(ffi-napi|@2060\.io\/ref-napi)(\/package\.json)?)$/;
    assert.deepStrictEqual(
      loaded.filter((path) => !native.test(path)),
      [],
    );
    assert(loaded.length >= 3, stderr);
  });

  it('keeps its compiled code for the next start when it checks a configuration, and only then', () => {
    // A copy, as others start the daemon meanwhile, and as deep, as native code is found from there.
    const copy = mkdtempSync(join(dirname(BUNDLE), '..', 'bundle-'));
    try {
      cpSync(dirname(BUNDLE), copy, { recursive: true });
      const cache = join(copy, 'main.js.cache');
      rmSync(cache);
      const run = (...argv: string[]): void => {
        spawnSync(process.execPath, [...argv], { encoding: 'utf8' });
      };
      const program = join(copy, 'mdatad.js');
      run(program, '--version');
      assert.strictEqual(statSync(cache, { throwIfNoEntry: false }), undefined);
      run(program, '--check-config');
      const { ino } = statSync(cache);
      run(program, '--check-config');
      // V8 had no objection: it would have been written anew.
      assert.strictEqual(statSync(cache).ino, ino);
      run('--no-opt', program, '--check-config');
      assert.notStrictEqual(statSync(cache).ino, ino);
    } finally {
      rmSync(copy, { recursive: true });
    }
  });

  it('knows the version of its package', () => {
    const { stdout } = spawnSync(process.execPath, [BUNDLE, '--version'], { encoding: 'utf8' });
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });
});
