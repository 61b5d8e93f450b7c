import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { makeProgram as mdatactl } from '../../tools/mdatactl/main';
import { makeProgram as simcn } from '../../tools/simcn/main';
import { SETTINGS } from '../../tools/smf/settings';
import { TOP } from '../support/manifest';
import { needs } from '../support/pending';

const PAGES = join(TOP, 'tools/man');
const COLUMNS = 80;
const SECTIONS = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'OPTIONS', 'EXIT STATUS', 'SEE ALSO'];
/** Pages of the platform. */
const ELSEWHERE = ['smf 7', 'vmadm 8'];
/** Commands of developers, without a page. */
const WITHOUT_PAGE = ['zone-events'];

/** Options such as `-H` and `--sort`, by subcommand; those of the program itself are under the empty name. */
type Options = Record<string, string[]>;

const pages = readdirSync(PAGES).sort();
const { bin } = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as {
  bin: Record<string, string>;
};

function sourceOf(page: string): string {
  return readFileSync(join(PAGES, page), 'utf8');
}

function nameOf(page: string): string {
  return page.slice(0, page.lastIndexOf('.'));
}

/** What the lists under OPTIONS and COMMANDS name. */
function optionsInPage(source: string): Options {
  const found: Options = { '': [] };
  let section = '';
  let depth = 0;
  let command = '';
  for (const line of source.split('\n')) {
    const heading = /^\.Sh (.+)/.exec(line)?.[1];
    section = heading ?? section;
    command = heading === undefined ? command : '';
    depth += line.startsWith('.Bl ') ? 1 : line === '.El' ? -1 : 0;
    const subcommand = /^\.It Cm (\S+)/.exec(line)?.[1];
    if (section === 'COMMANDS' && depth === 1 && subcommand !== undefined) {
      command = subcommand;
      found[command] = [];
    }
    if (line.startsWith('.It Fl ') && ['OPTIONS', 'COMMANDS'].includes(section)) {
      const flags = [...line.matchAll(/\bFl (-?\w[\w-]*)/g)];
      found[command]?.push(...flags.map(([, flag = '']) => `-${flag}`));
    }
  }
  return sorted(found);
}

/** What every command takes is in the page once, under OPTIONS. */
function optionsOfProgram(program: Command): Options {
  const [first, ...others] = program.commands.filter((command) => command.name() !== 'completion');
  const common = flagsOf(first ?? program).filter((flag) =>
    others.every((command) => flagsOf(command).includes(flag)),
  );
  const own = [...new Set([...flagsOf(program), ...common, '--help'])];
  const found: Options = { '': own };
  for (const command of program.commands) {
    const all = [command, ...command.commands].flatMap(flagsOf);
    found[command.name()] = [...new Set(all)].filter((flag) => !own.includes(flag));
  }
  return sorted(found);
}

function flagsOf({ options }: Command): string[] {
  return options.flatMap(({ short, long }) => [short, long].filter((flag) => flag !== undefined));
}

/** Of a program without subcommands, from what it prints. */
function optionsInHelp(name: string): Options {
  const program = join(TOP, bin[name] ?? assert.fail(name));
  const { stdout } = spawnSync(process.execPath, [program, '--help'], { encoding: 'utf8' });
  const flags = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+|-\w)/gm)];
  assert(flags.length > 0, `${name} --help: ${stdout}`);
  return sorted({ '': flags.map(([, flag = '']) => flag) });
}

function sorted(options: Options): Options {
  return Object.fromEntries(Object.entries(options).map(([name, flags]) => [name, flags.sort()]));
}

describe('the manual pages', function () {
  this.timeout(60_000);

  it('are there for every command that is installed', () => {
    assert.deepStrictEqual(
      pages.map(nameOf),
      Object.keys(bin)
        .filter((name) => !WITHOUT_PAGE.includes(name))
        .sort(),
    );
  });

  for (const page of pages) {
    const name = nameOf(page);

    it(`${page} names each option that ${name} takes, and no other`, () => {
      const programs: Record<string, () => Command> = {
        mdatactl: () => mdatactl(() => undefined),
        simcn: () => simcn(() => undefined),
      };
      const program = programs[name];
      const taken = program === undefined ? optionsInHelp(name) : optionsOfProgram(program());
      assert.deepStrictEqual(optionsInPage(sourceOf(page)), taken);
    });

    it(`${page} is mdoc in which mandoc finds nothing wrong`, function () {
      needs(this, spawnSync('mandoc', ['-V']).error === undefined ? null : 'needs mandoc');
      const argv = ['-Tlint', '-W', 'style', join(PAGES, page)];
      const { stdout } = spawnSync('mandoc', argv, { encoding: 'utf8' });
      // Pages that are not installed on this machine.
      const faults = stdout
        .split('\n')
        .filter((line) => !/^$|referenced manual not found/.test(line));
      assert.deepStrictEqual(faults, []);
    });

    it(`${page} is shown by man within ${COLUMNS} columns, without a warning`, function () {
      needs(this, spawnSync('groff', ['-v']).status === 0 ? null : 'needs man and groff');
      const argv = ['--warnings', '-E', 'UTF-8', '-l', join(PAGES, page)];
      const { stdout, stderr } = spawnSync('man', argv, {
        encoding: 'utf8',
        env: { ...process.env, MANWIDTH: String(COLUMNS), LC_ALL: 'C.UTF-8' },
      });
      assert.strictEqual(stderr, '');
      const headings: string[] = stdout.match(/^[A-Z][A-Z ]+$/gm) ?? [];
      assert.deepStrictEqual(
        SECTIONS.filter((title) => !headings.includes(title)),
        [],
      );
      const tooLong = stdout.split('\n').filter((line) => line.length > COLUMNS);
      assert.deepStrictEqual(tooLong, []);
    });
  }

  it('refer to no page that does not exist', () => {
    const known: string[] = [...pages.map((page) => page.replace('.', ' ')), ...ELSEWHERE];
    const named = pages.flatMap((page) => [...sourceOf(page).matchAll(/\bXr (\S+ \d)/g)]);
    assert(named.length > pages.length);
    assert.deepStrictEqual(
      named.flatMap(([, page]) => (page === undefined || known.includes(page) ? [] : [page])),
      [],
    );
  });

  it('explain every setting of the service', () => {
    const terms = [...sourceOf('mdatad.8').matchAll(/^\.It Va (\S+)$/gm)].map(([, name]) => name);
    assert.deepStrictEqual(
      terms,
      SETTINGS.map(({ property }) => property),
    );
  });

  it('are laid by npm run man into the directories that man looks into', () => {
    const out = mkdtempSync(join(tmpdir(), 'man-'));
    try {
      const man = (...argv: string[]): number | null =>
        spawnSync(process.execPath, [join(TOP, 'tools/man.js'), ...argv], { cwd: out }).status;
      assert.strictEqual(man('--out', out), 0);
      assert.strictEqual(man('mdatad'), 2);
      assert.strictEqual(man('--version'), 2);
      assert.deepStrictEqual(readdirSync(out), ['man']);
      assert.strictEqual(
        readFileSync(join(out, 'man/man8/mdatad.8'), 'utf8'),
        sourceOf('mdatad.8'),
      );
      assert(readdirSync(join(out, 'man/man1')).includes('mdata-get.1'));
    } finally {
      rmSync(out, { recursive: true });
    }
  });
});
