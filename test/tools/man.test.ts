import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COMMANDS } from '../../tools/man/commands';
import { completionScript } from '../../tools/man/completion';
import { manPage } from '../../tools/man/roff';
import { NOTIFY_STATES } from '../../src/admin/notify-states';
import { LOG_LEVELS } from '../../src/config';
import { SETTINGS } from '../../tools/smf/settings';
import { TOP } from '../support/manifest';
import { needs } from '../support/pending';
import { BUILT } from '../support/smf-package';

describe('the manual pages', function () {
  this.timeout(60_000);

  let directory = '';

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
  });

  after(() => rmSync(directory, { recursive: true }));

  function rendered(name: string): string {
    const command = COMMANDS.find((c) => c.name === name);
    assert(command !== undefined);
    const path = join(directory, `${name}.${command.section}`);
    writeFileSync(path, manPage(command, '1.2.3'));
    const { status, stdout, stderr } = spawnSync('man', ['--warnings', '-E', 'UTF-8', '-l', path], {
      encoding: 'utf8',
      env: { ...process.env, MANWIDTH: '100', MAN_KEEP_FORMATTING: '', LC_ALL: 'C.UTF-8' },
    });
    assert.deepStrictEqual([status, stderr], [0, '']);
    return stdout;
  }

  function needMan(context: Mocha.Context): void {
    if (spawnSync('man', ['--version']).status !== 0 || spawnSync('groff', ['-v']).status !== 0) {
      context.skip(); // man(1) and groff are not on this machine
    }
  }

  for (const { name, section } of COMMANDS) {
    it(`render ${name}(${section}) without a warning`, function () {
      needMan(this);
      const text = rendered(name);
      for (const title of ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'EXIT STATUS', 'SEE ALSO']) {
        assert.match(text, new RegExp(`^${title}$`, 'm'));
      }
      assert(!/[`]|_[A-Z]+_/.test(text), 'a mark was left in the text');
    });
  }

  it('show quotes, hyphens and backslashes as they are typed', function () {
    needMan(this);
    assert.match(rendered('mdatactl'), /mdatactl zones --json \| json -a -c 'this\.errors > 0'/);
    assert.match(rendered('mdatad'), /http:\/\/HOST:PORT/);
  });

  it('know every command that is installed, but for zone-events', () => {
    const { bin } = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as { bin: object };
    const known = COMMANDS.map((command) => command.name);
    assert.deepStrictEqual(
      Object.keys(bin).filter((name) => !known.includes(name)),
      ['zone-events'],
    );
  });

  it('refer to no page of ours that does not exist', () => {
    const known = COMMANDS.map(({ name, section }) => `${name}(${section})`);
    const elsewhere = ['vmadm(8)', 'smf(7)'];
    const dangling = COMMANDS.flatMap((c) => c.seeAlso).filter(
      (page) => !known.includes(page) && !elsewhere.includes(page),
    );
    assert.deepStrictEqual(dangling, []);
  });

  it('explain every setting of the service', () => {
    const page = manPage(COMMANDS.find((c) => c.name === 'mdatad') ?? assert.fail(), '1');
    for (const { property } of SETTINGS) {
      assert(page.includes(`\\fB${property}\\fR`), property);
    }
  });

  it('name the options that the programs take', () => {
    const programs = new Map([
      ['mdatad', join(BUILT, 'src/main.js')],
      ['simcn', join(BUILT, 'tools/simcn/main.js')],
      ['mdata-get', join(BUILT, 'tools/mdata/get.js')],
    ]);
    for (const [name, program] of programs) {
      const help = spawnSync(process.execPath, [program, '--help'], { encoding: 'utf8' }).stdout;
      const command = COMMANDS.find((c) => c.name === name);
      const taken = [...help.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map((m) => m[1] ?? '');
      const told = command?.options.map((option) => option.flag) ?? [];
      assert(taken.length > 0, name);
      assert.deepStrictEqual(
        taken.filter((flag) => !told.includes(flag)),
        [],
        name,
      );
    }
  });

  it('are written to directories as man(1) wants them, with the completion beside them', () => {
    const out = join(directory, 'out');
    const program = join(BUILT, 'tools/man/main.js');
    const { status } = spawnSync(process.execPath, [program, '--out', out, '--top', TOP]);
    assert.strictEqual(status, 0);
    assert.match(readFileSync(join(out, 'man8/mdatad.8'), 'utf8'), /^\.TH MDATAD 8 /);
    assert.strictEqual(readFileSync(join(out, 'mdatad.bash'), 'utf8'), completionScript(COMMANDS));
  });
});

describe('the completion', () => {
  let directory = '';

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    writeFileSync(join(directory, 'mdatad.bash'), completionScript(COMMANDS));
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
    assert.deepStrictEqual(offered('simcn', 'fault', 'vmadm'), ['vmadm.hang=', 'vmadm.fail']);
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
    writeFileSync(join(directory, 'mdatad.zsh'), completionScript(COMMANDS, 'zsh'));
    const script = `source ${directory}/mdatad.zsh && whence -w complete && emulate ksh
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mdatad_mdatactl; echo "\${COMPREPLY[@]}"`;
    const words = ['mdatactl', '--root', directory, 'doctor', 'ab'];
    const { stdout, stderr } = spawnSync('zsh', ['-fc', script, 'zsh', ...words], {
      encoding: 'utf8',
      env: { ...process.env, HOME: directory },
    });
    assert.deepStrictEqual([stdout, stderr], ['complete: function\nabc-1 abd-2\n', '']);
  });

  it('is printed by mdatactl for the shell that is named', () => {
    const program = join(BUILT, 'tools/mdatactl/main.js');
    const printed = (shell: string): string =>
      spawnSync(process.execPath, [program, 'completion', shell], { encoding: 'utf8' }).stdout;
    assert.strictEqual(printed('bash'), completionScript(COMMANDS));
    assert.strictEqual(printed('zsh'), completionScript(COMMANDS, 'zsh'));
  });

  it('offers options, and the values of an option', () => {
    assert.deepStrictEqual(offered('mdatad', '--log-level', 'd'), ['debug']);
    assert.deepStrictEqual(offered('simcn', 'up', '--v'), ['--version', '--vms']);
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
