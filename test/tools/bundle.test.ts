import assert from 'node:assert';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../support/eventually';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';
import { osZone } from '../support/simulated-node';

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

  it('loads no other file but native code until it is ready', async function () {
    needs(this, whyNoNode());
    const hook = join(directory, 'hook.js');
    writeFileSync(hook, PRINT_LOADED);
    const node = await SimNode.start({ vms: [osZone(1)] });
    const said = { stdout: '', stderr: '' };
    try {
      const daemon = spawn(process.execPath, ['--require', hook, BUNDLE, '--root', node.root]);
      daemon.stdout.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
      daemon.stderr.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
      const ended = once(daemon, 'close');
      await eventually(() => said.stdout.includes('"msg":"ready"'), 'ready', 30_000);
      daemon.kill('SIGTERM');
      await ended;
    } finally {
      await node.stop();
    }
    const [program, ...loaded] = said.stderr.trimEnd().split('\n');
    assert.strictEqual(program, BUNDLE);
    // The loader of native packages reads their package.json too.
    const native =
      /^\/.*(\.node|\/node_modules\/(ffi-napi|@2060\.io\/ref-napi)(\/package\.json)?)$/;
    assert.deepStrictEqual(
      loaded.filter((path) => !native.test(path)),
      [],
    );
    assert(loaded.length >= 3, said.stderr);
  });

  it('knows the version of its package', () => {
    const { stdout } = spawnSync(process.execPath, [BUNDLE, '--version'], { encoding: 'utf8' });
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });
});
