import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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
    // A start that fails has called C through ffi by its end.
    const argv = ['--require', hook, BUNDLE, '--root', directory];
    const { stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
    assert.match(stderr, /no compute node is there/);
    const [program, ...loaded] = stderr.split('\n').filter((line) => line.startsWith('/'));
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

  it('knows the version of its package', () => {
    const { stdout } = spawnSync(process.execPath, [BUNDLE, '--version'], { encoding: 'utf8' });
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });
});
