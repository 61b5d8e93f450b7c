/*
 * The import rules of the design: lower layers never know higher ones, and each world has one door.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const TOP = resolve(__dirname, '..', '..');
const SRC = join(TOP, 'src');
/** Run by mdatactl on a node, beside zones that are served: the rules for paths and native code hold there too. */
const ON_A_NODE = ['tools/preflight', 'tools/mdatactl'];

/** Who may import whom, by directory below src/. Files at the top of src/ are rooms of their own. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  lib: ['lib'],
  log: ['lib'],
  config: ['lib', 'log', 'transport/limits'],
  platform: ['lib', 'platform'],
  protocol: ['protocol'],
  metadata: ['protocol', 'metadata'],
  vm: ['lib', 'log', 'platform', 'metadata', 'vm', 'writes'],
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
  'request-log': ['lib', 'log', 'protocol', 'transport/link'],
  'port-log': ['log', 'transport/link'],
  metrics: ['request-log', 'port-log', 'transport/link'],
  'zone-factory': ['*'],
  agent: ['*'],
  main: ['*'],
};

/** Modules that only some rooms may open. */
const DOORS: readonly { readonly module: RegExp; readonly rooms: RegExp }[] = [
  { module: /^ffi-napi$/, rooms: /^platform\/(libzonecfg|ffi-|abi)/ },
  { module: /^(node:)?child_process$/, rooms: /^platform\/exec$/ },
  {
    module: /^(node:)?net$/,
    rooms:
      /^((transport|admin)\/|platform\/(exec|zone-root)$|tools\/(preflight\/(child|socket-probes)|mdatactl\/compare)$)/,
  },
  { module: /^(node:)?(fs|net|http|os|timers).*$/, rooms: /^(?!protocol\/|metadata\/)/ },
];

/** Words that only some rooms may say. */
const WORDS: readonly { readonly word: RegExp; readonly rooms: RegExp }[] = [
  { word: /process\.env\b/, rooms: /^(config|tools\/mdatactl\/main)$/ },
  { word: /process\.exit\b|process\.(on|once)\(\s*'SIG/, rooms: /^(tools\/mdatactl\/)?main$/ },
  { word: /\.node['"`]/, rooms: /^platform\/addon$/ },
  // Who names a path below a zone's root may never come back: only processes of their own do.
  { word: /\/root\b/, rooms: /^platform\/zone-root$/ },
  { word: /\/\.zonecontrol\b/, rooms: /^platform\/paths$/ },
  // Mounts are made where paths below a zone's root may be named. Preflight takes away what a killed run left in
  // its own scratch directory, which is no zone's.
  { word: /\.(mountLofs|umount)\(/, rooms: /^tools\/preflight\/child$/ },
  // A name for records and the mount table, in the hands of who opens no file.
  {
    word: /\bnameOf\(/,
    rooms:
      /^(platform\/zone-root|transport\/serial-(link|dialer)|zones\/socket-mount|admin\/check-transport|tools\/preflight\/(node-checks|socket-probes|zone-probes))$/,
  },
];

interface SourceFile {
  /** Below src/, without its ending: `transport/serial-link`; of a tool below the top: `tools/preflight/child`. */
  readonly room: string;
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
    return [{ room: relative(base, path).replace(/\.ts$/, ''), text: readFileSync(path, 'utf8') }];
  });
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|require\(|import\()\s*'([^']+)'/g)].map((m) => m[1] ?? '');
}

function topOf(room: string): string {
  return room.split('/')[0] ?? room;
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}

describe('the layers of src/ and of what runs beside it on a node', () => {
  const files = sources(SRC, SRC);
  const everywhere = [...files, ...ON_A_NODE.flatMap((name) => sources(join(TOP, name), TOP))];

  it('are all known to this test', () => {
    const unknown = files.map((file) => topOf(file.room)).filter((top) => !(top in MAY_IMPORT));
    assert.deepStrictEqual([...new Set(unknown)], []);
  });

  it('import only what lies below them', () => {
    const faults = files.flatMap(({ room, text }) => {
      const allowed = MAY_IMPORT[topOf(room)] ?? [];
      return importsOf(text)
        .filter((name) => name.startsWith('.'))
        .map((name) => relative(SRC, resolve(dirname(join(SRC, room)), name)))
        .filter((target) => !allowed.some((a) => a === '*' || a === target || a === topOf(target)))
        .map((target) => `${room} imports ${target}`);
    });
    assert.deepStrictEqual(faults, []);
  });

  it('reach the outer world through one door each', () => {
    const faults = everywhere.flatMap(({ room, text }) =>
      importsOf(text).flatMap((name) =>
        DOORS.filter((door) => door.module.test(name) && !door.rooms.test(room)).map(
          () => `${room} imports ${name}`,
        ),
      ),
    );
    assert.deepStrictEqual(faults, []);
  });

  it('read the environment, end the process and take signals in one place each', () => {
    const faults = everywhere.flatMap(({ room, text }) =>
      WORDS.filter(({ word, rooms }) => word.test(withoutComments(text)) && !rooms.test(room)).map(
        ({ word }) => `${room} says ${word.source}`,
      ),
    );
    assert.deepStrictEqual(faults, []);
  });
});
