/*
 * The import rules of the design: lower layers never know higher ones, each part of the platform is reached
 * from one file, and nothing imports or includes in a circle. And the names: of files, and the words of the field.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';

const TOP = resolve(__dirname, '..', '..');
const SRC = join(TOP, 'src');
/** Run by mdatactl on a node, beside zones that are served: the rules for paths and native code hold there too. */
const ON_A_NODE = ['tools/preflight', 'tools/mdatactl'];

/** Who may import whom, by directory below src/. A file at the top of src/ is a layer of its own. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  lib: ['lib'],
  log: ['lib'],
  config: ['lib', 'log', 'transport/link'],
  platform: ['lib', 'platform'],
  protocol: ['protocol'],
  metadata: ['protocol', 'metadata'],
  vm: ['lib', 'log', 'platform', 'metadata', 'vm'],
  writes: ['lib', 'log', 'platform', 'metadata', 'vm', 'writes'],
  transport: ['lib', 'log', 'platform', 'protocol', 'transport'],
  zones: ['lib', 'log', 'platform', 'transport', 'zones'],
  datasets: ['lib', 'log', 'platform', 'metadata', 'datasets'],
  admin: [
    'lib',
    'log',
    'config',
    'request-log',
    'metrics',
    'platform',
    'protocol',
    'metadata',
    'vm',
    'writes',
    'transport',
    'zones',
    'datasets',
    'admin',
  ],
  'request-log': ['lib', 'log', 'metrics', 'protocol', 'transport/link'],
  metrics: ['transport/link'],
  'zone-factory': ['*'],
  agent: ['*'],
  main: ['*'],
};

/** Modules that only some files may import. */
const SOLE_USERS: readonly { readonly module: RegExp; readonly files: RegExp }[] = [
  { module: /^ffi-napi$/, files: /^platform\/ffi$/ },
  { module: /^(node:)?child_process$/, files: /^platform\/exec$/ },
  {
    module: /^(node:)?net$/,
    files:
      /^((transport|admin)\/|platform\/(exec|zone-root)$|tools\/preflight\/(child|socket-probes)$)/,
  },
  { module: /^(node:)?(fs|net|http|os|timers).*$/, files: /^(?!protocol\/|metadata\/)/ },
];

/** Names that only some directories may use. */
const NAMES: readonly { readonly word: RegExp; readonly files: RegExp }[] = [
  // Only the scheduler defers work to later iterations of the event loop.
  { word: /\bsetImmediate\b/, files: /^(lib\/scheduler|platform\/zone-events)$/ },
  { word: /process\.env\b/, files: /^(config|tools\/mdatactl\/main)$/ },
  {
    word: /process\.exit\b|process\.(on|once)\(\s*'SIG(?!USR1)/,
    files: /^(tools\/mdatactl\/)?main$/,
  },
  { word: /'SIGUSR1'/, files: /^platform\/process$/ },
  { word: /\.node['"`]/, files: /^platform\/addon$/ },
  // A system call on a path below a zone's root may hang for ever: only child processes make one.
  { word: /\/root\b/, files: /^platform\/zone-root$/ },
  { word: /\/\.zonecontrol\b/, files: /^platform\/paths$/ },
  // A mount that is in the wrong place is taken away, and what preflight mounted in its own scratch directory.
  {
    word: /\.unmount\(/,
    files: /^(zones\/socket-mount|tools\/preflight\/(preflight|socket-probes))$/,
  },
  // A name for log records and the mount table, used only where no file is opened.
  {
    word: /\bnameOf\(/,
    files:
      /^(platform\/zone-root|transport\/serial-(link|dialer)|zones\/socket-mount|admin\/check-transport|tools\/preflight\/(node-checks|socket-probes|zone-probes))$/,
  },
];

interface SourceFile {
  /** Below src/, without its ending: `transport/serial-link`; of a tool below the top: `tools/preflight/child`. */
  readonly name: string;
  readonly text: string;
}

function sources(directory: string, base = directory): SourceFile[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      return sources(path, base);
    }
    if (!entry.name.endsWith('.ts') || entry.name.endsWith('.d.ts')) {
      return [];
    }
    return [{ name: relative(base, path).replace(/\.ts$/, ''), text: readFileSync(path, 'utf8') }];
  });
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|require\(|import\()\s*'([^']+)'/g)].map((m) => m[1] ?? '');
}

function topOf(name: string): string {
  return name.split('/')[0] ?? name;
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}

/** Files below a directory of the project that have one of the endings, as paths from the top. */
function filesBelow(directory: string, endings: readonly string[]): string[] {
  return readdirSync(join(TOP, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && endings.includes(extname(entry.name)))
    .map((entry) => relative(TOP, join(entry.parentPath, entry.name)))
    .filter((path) => !path.split('/').includes('build'));
}

/** Which file needs which others; type-only imports count. */
type Graph = ReadonlyMap<string, readonly string[]>;

function importGraph(): Graph {
  const paths = ['src', 'tools', 'test'].flatMap((directory) => filesBelow(directory, ['.ts']));
  return new Map(
    paths.map((path) => {
      const targets = importsOf(withoutComments(readFileSync(join(TOP, path), 'utf8')))
        .filter((name) => name.startsWith('.'))
        .map((name) => `${join(dirname(path), name).replace(/\.js$/, '')}.ts`);
      return [path, targets.filter((target) => paths.includes(target))];
    }),
  );
}

/** A source and the header of its name are one: what either includes, both need. */
function includeGraph(): Graph {
  const paths = filesBelow('native', ['.c', '.h']);
  const units = new Map<string, string[]>();
  for (const path of paths) {
    const unit = path.replace(/\.[ch]$/, '');
    const text = readFileSync(join(TOP, path), 'utf8');
    const targets = [...text.matchAll(/^#include "([^"]+)\.h"/gm)]
      .map((match) => join(dirname(path), match[1] ?? ''))
      .filter((target) => target !== unit && paths.includes(`${target}.h`));
    units.set(unit, [...(units.get(unit) ?? []), ...targets]);
  }
  return units;
}

/** Groups of files each of which needs, through others, each of the group (Tarjan's algorithm). */
function cyclesOf(graph: Graph): string[][] {
  const numbers = new Map<string, number>();
  const stack: string[] = [];
  const cycles: string[][] = [];
  const walk = (file: string): number => {
    const number = numbers.size;
    numbers.set(file, number);
    let low = number;
    stack.push(file);
    for (const target of graph.get(file) ?? []) {
      if (!numbers.has(target)) {
        low = Math.min(low, walk(target));
      } else if (stack.includes(target)) {
        low = Math.min(low, numbers.get(target) ?? low);
      }
    }
    if (low === number) {
      const group = stack.splice(stack.indexOf(file));
      if (group.length > 1 || graph.get(file)?.includes(file) === true) {
        cycles.push(group.sort());
      }
    }
    return low;
  };
  for (const file of graph.keys()) {
    if (!numbers.has(file)) {
      walk(file);
    }
  }
  return cycles.sort();
}

describe('imports and includes', () => {
  it('form no circle in src, tools and test, type-only imports included', () => {
    const graph = importGraph();
    assert(graph.size > 100, 'files were found');
    assert.deepStrictEqual(cyclesOf(graph), []);
  });

  it('form no circle in native', () => {
    const graph = includeGraph();
    assert(graph.get('native/sockets')?.includes('native/socket_listener'), 'includes were found');
    assert.deepStrictEqual(cyclesOf(graph), []);
  });

  it('are found to form circles where they do', () => {
    const graph = new Map([
      ['a', ['b', 'd']],
      ['b', ['c']],
      ['c', ['a', 'd']],
      ['d', ['e']],
      ['e', []],
      ['f', ['f']],
    ]);
    assert.deepStrictEqual(cyclesOf(graph), [['a', 'b', 'c'], ['f']]);
  });
});

describe('the layers of src/ and of what runs beside it on a node', () => {
  const files = sources(SRC, SRC);
  const everywhere = [...files, ...ON_A_NODE.flatMap((name) => sources(join(TOP, name), TOP))];

  it('are all known to this test', () => {
    const unknown = files.map((file) => topOf(file.name)).filter((top) => !(top in MAY_IMPORT));
    assert.deepStrictEqual([...new Set(unknown)], []);
  });

  it('import only what lies below them', () => {
    const faults = files.flatMap(({ name, text }) => {
      const allowed = MAY_IMPORT[topOf(name)] ?? [];
      return importsOf(text)
        .filter((target) => target.startsWith('.'))
        .map((target) => relative(SRC, resolve(dirname(join(SRC, name)), target)))
        .filter((target) => !allowed.some((a) => a === '*' || a === target || a === topOf(target)))
        .map((target) => `${name} imports ${target}`);
    });
    assert.deepStrictEqual(faults, []);
  });

  it('use each API of the operating system in one place', () => {
    const faults = everywhere.flatMap(({ name, text }) =>
      importsOf(text).flatMap((module) =>
        SOLE_USERS.filter((rule) => rule.module.test(module) && !rule.files.test(name)).map(
          () => `${name} imports ${module}`,
        ),
      ),
    );
    assert.deepStrictEqual(faults, []);
  });

  it('read the environment, end the process and take signals in one place each', () => {
    const faults = everywhere.flatMap(({ name, text }) =>
      NAMES.filter((rule) => rule.word.test(withoutComments(text)) && !rule.files.test(name)).map(
        ({ word }) => `${name} uses ${word.source}`,
      ),
    );
    assert.deepStrictEqual(faults, []);
  });
});

/** Words of our own for what has a name: each with the field's. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  picture: 'snapshot',
  reception: 'connection manager',
  turnstile: 'dial limiter',
  crammed: 'queue full',
  coveted: 'has waiters',
  unheard: 'detached',
  clogged: 'needs drain',
  untaken: 'in flight',
  seldom: 'periodic',
  arrivals: 'waiters',
  departures: 'closing',
  checkup: 'run, report',
  'turned away': 'rejected',
  'carried out': 'executed',
  'world\u2019s fault': 'SystemError',
  mangler: 'fault injector',
  octets: 'bytes',
  doors: 'server, adapter',
  sweep: 'periodic timer',
  crowded: 'has waiters',
  lane: 'queue',
  allowance: 'rate limit',
  journal: 'audit log',
  folder: 'directory',
  intake: 'reader',
  outlet: 'sink',
  unfit: 'blocked',
  hopeful: 'retryable',
  owing: 'pending',
  deaf: 'closed',
};

describe('names', () => {
  it('of files are of one concept', () => {
    const files = ['src', 'tools', 'test', 'native'].flatMap((directory) =>
      filesBelow(directory, ['.ts', '.c', '.h']),
    );
    const vague = /^index\.|(^|[-_])(utils?|common|misc|helpers?|and)([-_.]|$)/;
    assert.deepStrictEqual(
      files.filter((path) => vague.test(basename(path))),
      [],
    );
  });

  it('and comments are in the words of the field', () => {
    const paths = [
      ...['src', 'native', 'smf'].flatMap((directory) =>
        filesBelow(directory, ['.ts', '.c', '.h', '.md', '.xml']),
      ),
      ...['test', 'tools'].flatMap((directory) => filesBelow(directory, ['.ts', '.c', '.h'])),
    ].filter((path) => !path.endsWith('layers.test.ts'));
    const faults = paths.flatMap((path) => {
      const text = readFileSync(join(TOP, path), 'utf8').replace(/\s+(\*\s+)?/g, ' ');
      return Object.entries(OTHER_WORDS)
        .filter(([word]) => new RegExp(`\\b${word.replace(' ', '[ -]')}\\b`, 'i').test(text))
        .map(([word, better]) => `${path}: ${word} (say ${better})`);
    });
    assert.deepStrictEqual(faults, []);
  });
});
