import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NOTIFY_STATES } from '../../src/admin/node';
import { LOG_LEVELS } from '../../src/config';
import { packageVersion } from '../../src/lib/version';
import { completionScript } from '../../tools/completion';
import { completedPrograms, makeProgram as mdatactl } from '../../tools/mdatactl/main';
import { completedSimcn, makeProgram as simcn } from '../../tools/simcn/main';
import { needs } from '../support/pending';
import { BUILT } from '../support/smf-package';

const ON_A_NODE = completedPrograms(mdatactl(() => undefined));
const ZSH_LISTS = join(__dirname, '../../../test/support/zsh-lists.zsh');
const SIMCN = completedSimcn(simcn(() => undefined));

describe('the completion', () => {
  let directory = '';

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    writeFileSync(join(directory, 'mdatad.bash'), completionScript([...ON_A_NODE, SIMCN]));
    mkdirSync(join(directory, 'etc/zones'), { recursive: true });
    const index =
      '# comment\nglobal:installed:/\nabc-1:running:/zones/a:u\nabd-2:installed:/z:u:joyent\n';
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

  describe('for zsh', () => {
    before(function () {
      needs(this, spawnSync('zsh', ['-c', 'zmodload zsh/zpty']).status === 0 ? null : 'needs zsh');
      const programs = [...ON_A_NODE, SIMCN];
      writeFileSync(join(directory, 'mdatad.zsh'), completionScript(programs, 'zsh'));
    });

    /** What an interactive zsh lists with the cursor behind the line: one of its lines each. */
    function listed(line: string): string[] {
      const { stdout, stderr } = spawnSync(
        'zsh',
        ['-f', ZSH_LISTS, join(directory, 'mdatad.zsh'), line],
        {
          encoding: 'utf8',
          timeout: 30_000,
          env: { ...process.env, HOME: directory },
        },
      );
      assert.strictEqual(stderr, '');
      const [, list = ''] = stdout.split(`${line}\r\r\n`);
      assert(list !== '', stdout);
      return list
        .slice(0, list.lastIndexOf(line))
        .split('\r\n')
        .map((each) => each.trim())
        .filter((each) => each !== '');
    }

    it('offers subcommands and options with what they are', () => {
      assert.deepStrictEqual(listed('mdatactl do'), [
        'doctor  -- check the whole chain of a zone, or of all, and say where it breaks',
      ]);
      assert.deepStrictEqual(listed('mdatactl top --s'), [
        '--screens  -- end after so many screens',
        '--sort     -- what to sort by',
      ]);
      assert.deepStrictEqual(listed('mdatactl tail -n 5 --le'), [
        '--level  -- this level and above',
      ]);
      assert.deepStrictEqual(listed('mdata-watch -'), [
        '--help     -- print a summary',
        '--once     -- end after the first change',
        '--socket   -- the socket to connect to',
        '--timeout  -- give up after this long',
        '--version  -- print the version',
        '-t         -- end after this long',
      ]);
    });

    it('offers the values of an option and of an operand', () => {
      const words = (line: string): string[] => listed(line).flatMap((each) => each.split(/\s+/));
      assert.deepStrictEqual(words('mdatactl top --sort '), [
        'bytes',
        'errors',
        'latency',
        'requests',
      ]);
      assert.deepStrictEqual(words('mdatactl notify abc-1 '), [...NOTIFY_STATES].sort());
      assert.deepStrictEqual(words('simcn fault vmadm'), ['vmadm.fail', 'vmadm.hang']);
      assert.deepStrictEqual(words('mdata-get sdc:'), [
        'sdc:alias',
        'sdc:hostname',
        'sdc:nics',
        'sdc:uuid',
      ]);
    });

    it('offers columns one after the other', () => {
      const words = (line: string): string[] => listed(line).flatMap((each) => each.split(/\s+/));
      assert.deepStrictEqual(words('mdatactl top -o l'), ['last', 'latency']);
      assert.deepStrictEqual(words('mdatactl top --fields conns,l'), ['last', 'latency']);
      assert.deepStrictEqual(words('simcn ls -o zone'), [
        'zone_state',
        'zoneid',
        'zonename',
        'zonepath',
      ]);
    });

    it("offers the node's zones with their brands, below the root that the line names", () => {
      const zones = ['abc-1  -- zone', 'abd-2  -- joyent'];
      assert.deepStrictEqual(listed(`mdatactl --root ${directory} doctor ab`), zones);
      assert.deepStrictEqual(listed(`mdatactl zone --root=${directory} `), zones);
      const all = [...zones, 'expand'];
      assert.deepStrictEqual(listed(`mdatactl --root ${directory} datasets `), all);
      assert.deepStrictEqual(listed('mdatactl zone --json --roo'), [
        '--root  -- the root of the compute node (or MDATAD_ROOT)',
      ]);
    });
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

  it('has --version of every command, which prints it', () => {
    for (const program of [mdatactl(() => undefined), simcn(() => undefined)]) {
      const without = [program, ...program.commands, ...program.commands.flatMap((c) => c.commands)]
        .filter(({ options }) => !options.some(({ long }) => long === '--version'))
        .map((command) => command.name());
      assert.deepStrictEqual(without, []);
    }
    for (const argv of [
      ['simcn', 'ls'],
      ['mdatactl', 'zone'],
      ['mdatactl', 'datasets', 'expand'],
    ]) {
      const [program = '', ...command] = argv;
      const main = join(BUILT, 'tools', program, 'main.js');
      const ended = spawnSync(process.execPath, [main, ...command, '--version'], {
        encoding: 'utf8',
      });
      assert.deepStrictEqual([ended.status, ended.stdout], [0, `${packageVersion()}\n`]);
    }
  });

  it('offers the daemon, its options and their values', () => {
    assert.deepStrictEqual(offered('mdatad', '--log-level', 'de'), ['debug']);
    assert.deepStrictEqual(offered('mdatad', '--c'), ['--config', '--check-config']);
    assert.deepStrictEqual(offered('mdatad', '--config', `${directory}/mda`), [
      `${directory}/mdatad.bash`,
    ]);
  });

  it('offers columns behind -o and -s, one after the other', () => {
    assert.deepStrictEqual(offered('mdatactl', 'zones', '-o', 'al'), ['alias']);
    assert.deepStrictEqual(offered('mdatactl', 'zones', '--fields', 'zone,al'), ['zone,alias']);
    assert.deepStrictEqual(offered('mdatactl', 'keys', 'abc-1', '-s', '-by'), ['-bytes']);
    assert.deepStrictEqual(offered('mdatactl', 'top', '-o', 'conns,l'), [
      'conns,latency',
      'conns,last',
    ]);
    // Of top this is a choice, no list.
    assert.deepStrictEqual(offered('mdatactl', 'top', '--sort', 'requests,l'), []);
    assert.deepStrictEqual(offered('simcn', 'ls', '-o', 'uuid,zonei'), ['uuid,zoneid']);
    assert.deepStrictEqual(offered('mdatactl', 'datasets', '-o', 'dat'), ['dataset']);
  });

  it('offers options, and the values of an option', () => {
    assert.deepStrictEqual(offered('mdatactl', 'top', '--sort', 'r'), ['requests']);
    assert.deepStrictEqual(offered('simcn', 'up', '--v'), ['--version', '--vms']);
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
