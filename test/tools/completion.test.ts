import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NOTIFY_STATES } from '../../src/admin/node';
import { LOG_LEVELS } from '../../src/config';
import { completed, completionScript, MDATA_PROGRAMS } from '../../tools/completion';
import { makeProgram as mdatactl } from '../../tools/mdatactl/main';
import { makeProgram as simcn } from '../../tools/simcn/main';
import { FAULTS } from '../../tools/simcn/faults';
import { needs } from '../support/pending';
import { BUILT } from '../support/smf-package';

const ON_A_NODE = [completed(mdatactl(() => undefined)), ...MDATA_PROGRAMS];
const SIMCN = completed(
  simcn(() => undefined),
  { 'fault name': Object.keys(FAULTS) },
);

describe('the completion', () => {
  let directory = '';

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    writeFileSync(join(directory, 'mdatad.bash'), completionScript([...ON_A_NODE, SIMCN]));
    mkdirSync(join(directory, 'etc/zones'), { recursive: true });
    const index = '# comment\nglobal:installed:/\nabc-1:running:/zones/a:u\nabd-2:installed:/z:u\n';
    writeFileSync(join(directory, 'etc/zones/index'), index);
  });

  after(() => rmSync(directory, { recursive: true }));

  /** What bash offers with the cursor behind the last word. */
  function offered(...words: string[]): string[] {
    const name = `_mdatad_${(words[0] ?? '').replace(/-/g, '_')}`;
    const script = `source ${directory}/mdatad.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ${name}; echo "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', ...words], {
      encoding: 'utf8',
    });
    assert.strictEqual(stderr, '');
    return stdout.trim().split(' ').filter(Boolean);
  }

  it('offers the subcommands, then what fits the one that was chosen', () => {
    assert.deepStrictEqual(offered('mdatactl', 'do'), ['doctor']);
    assert.deepStrictEqual(offered('mdatactl', 'log-level', ''), [...LOG_LEVELS]);
    assert.deepStrictEqual(offered('simcn', 'fault', 'vmadm'), ['vmadm.hang', 'vmadm.fail']);
    assert.deepStrictEqual(offered('mdatactl', 'zone', 'abc-1', ''), []);
    assert.deepStrictEqual(offered('mdatactl', 'notify', 'abc-1', 'ch'), ['changed']);
    assert.deepStrictEqual(offered('mdatactl', 'notify', 'abc-1', ''), [...NOTIFY_STATES]);
  });

  it("offers the node's zones, below the root that the line names", () => {
    assert.deepStrictEqual(offered('mdatactl', '--root', directory, 'doctor', 'ab'), [
      'abc-1',
      'abd-2',
    ]);
    assert.deepStrictEqual(offered('mdatactl', '--root', directory, 'zone', ''), [
      'abc-1',
      'abd-2',
    ]);
    const all = offered('mdatactl', '--root', directory, 'datasets', '');
    assert.deepStrictEqual(all, ['abc-1', 'abd-2', 'expand']);
  });

  it('works in zsh as it does in bash', function () {
    const zsh = spawnSync('zsh', ['--version']).status === 0;
    needs(this, zsh ? null : 'needs zsh');
    writeFileSync(join(directory, 'mdatad.zsh'), completionScript(ON_A_NODE, 'zsh'));
    const script = `source ${directory}/mdatad.zsh && whence -w complete && emulate ksh
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mdatad_mdatactl; echo "\${COMPREPLY[@]}"`;
    const words = ['mdatactl', '--root', directory, 'doctor', 'ab'];
    const { stdout, stderr } = spawnSync('zsh', ['-fc', script, 'zsh', ...words], {
      encoding: 'utf8',
      env: { ...process.env, HOME: directory },
    });
    assert.deepStrictEqual([stdout, stderr], ['complete: function\nabc-1 abd-2\n', '']);
  });

  it('is printed by mdatactl and simcn for the shell that is named', () => {
    const printed = (program: string, shell: string): string => {
      const argv = [join(BUILT, 'tools', program, 'main.js'), 'completion', shell];
      return spawnSync(process.execPath, argv, { encoding: 'utf8' }).stdout;
    };
    assert.strictEqual(printed('mdatactl', 'bash'), completionScript(ON_A_NODE));
    assert.strictEqual(printed('mdatactl', 'zsh'), completionScript(ON_A_NODE, 'zsh'));
    assert.strictEqual(printed('simcn', 'bash'), completionScript([SIMCN]));
  });

  it('offers options, and the values of an option', () => {
    assert.deepStrictEqual(offered('mdatactl', 'top', '--sort', 'r'), ['requests']);
    assert.deepStrictEqual(offered('simcn', 'up', '--v'), ['--vms']);
    assert.deepStrictEqual(offered('mdatactl', '--ver'), ['--version']);
    assert.deepStrictEqual(offered('mdata-get', '--'), [
      '--token',
      '--socket',
      '--timeout',
      '--version',
      '--help',
    ]);
    assert.deepStrictEqual(offered('mdata-get', 'sdc:u'), ['sdc:uuid']);
  });
});
