/*
 * What goes into the package: the list of its entries, from a built checkout.
 *
 * Used by `npm run package`. Reads files, writes none. Only what a node runs goes in: no tests, no sources, no
 * tools of development, no package that the daemon does not need.
 */
import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { RemediedError } from '../../src/lib/errors';
import { completed, MDATA_PROGRAMS } from '../completed';
import { completionScript, SHELLS } from '../completion';
import { makeProgram as mdatactl } from '../mdatactl/main';
import { exampleSite } from '../smf/settings';
import { THIS_MACHINE, type Options, type Project } from './project';
import { packageReadme } from './readme';
import type { TarEntry } from './tar';

const EXECUTABLE = 0o755;
const PLAIN = 0o644;

/** Built tools that are for developers. */
const NOT_ON_A_NODE = /^tools\/(package|fuzz|bench|check-illumos|quickstart|tour|profile|simcn)\b/;

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      dev: z.boolean().optional(),
      optional: z.boolean().optional(),
      devOptional: z.boolean().optional(),
    }),
  ),
});

/** All entries but RELEASE, paths relative to the package. Throws when something is not built. */
export function contentsOf(project: Project, options: Options): TarEntry[] {
  const { top } = project;
  if (options.target !== THIS_MACHINE) {
    throw new RemediedError(
      `--target ${options.target}: this checkout was built on ${THIS_MACHINE} and holds no native code for another platform`,
      `make the package on a machine of ${options.target}`,
    );
  }
  const programs = filesBelow(top, 'dist').filter(isProgram);
  const taken = [
    ...programs,
    ...filesBelow(top, 'native/build/Release').filter(isLoaded),
    ...filesBelow(top, 'smf'),
    ...productionModules(top).flatMap((directory) => {
      const paths = filesBelow(top, directory);
      const all = new Set(paths);
      return paths.filter((path) => wantsModuleFile(path, directory, all));
    }),
    'package.json',
    'LICENSE',
  ];
  if (!programs.includes('dist/src/bundle/mdatad.js')) {
    throw new Error('dist/src/bundle/mdatad.js is missing: run npm run build');
  }
  if (!taken.includes('native/build/Release/mdatad.node')) {
    throw new Error('native/build/Release/mdatad.node is missing: run npm run build');
  }
  const node = options.node === undefined ? [] : nodeTree(options.node);
  return [
    ...taken.map((path) => entryOf(top, path, path)),
    ...pagesOf(project),
    ...generated(project, options),
    ...node,
  ];
}

/** The manual pages of the commands that go in. */
function pagesOf({ top, bin }: Project): TarEntry[] {
  return filesBelow(top, 'tools/man').flatMap((path) => {
    const [, name = '', section = ''] = /^tools\/man\/(.+)\.(\w+)$/.exec(path) ?? [];
    const program = bin[name];
    return program !== undefined && isProgram(program)
      ? [entryOf(top, path, `man/man${section}/${name}.${section}`)]
      : [];
  });
}

/** What is made for the package and lies nowhere in the checkout. */
function generated(project: Project, options: Options): TarEntry[] {
  const commands = Object.entries(project.bin)
    .filter(([, file]) => isProgram(file))
    .map(([name, file]) => textEntry(`bin/${name}`, wrapper(file), EXECUTABLE));
  return [
    ...commands,
    ...SHELLS.map((shell) =>
      textEntry(
        `completion/mdatad.${shell}`,
        completionScript([completed(mdatactl(() => undefined)), ...MDATA_PROGRAMS], shell),
      ),
    ),
    textEntry('smf/mdatad.json.example', exampleSite()),
    textEntry('README.md', packageReadme(project, options)),
  ];
}

/** A command of bin/: the script runs with mdatad's own Node, whatever `node` the PATH has. */
function wrapper(file: string): string {
  return `#!/bin/sh
release=$(cd -P "$(dirname "$0")/.." && pwd -P)
. "$release/smf/lib/node.sh"
case "$release" in
*/versions/*) home=\${release%/versions/*} ;;
*) home=/opt/mdatad ;;
esac
if ! find_node "$release" "$home"; then
	echo "\${0##*/}: there is no Node for mdatad: name one with smf/install --node DIR (an installed mdatad: smf/upgrade --node DIR)" >&2
	exit 95
fi
exec "$node" "$release/${file}" "$@"
`;
}

function isProgram(path: string): boolean {
  const [, inner = ''] = /^dist\/((?:src|tools)\/.*\.js)$/.exec(path) ?? [];
  return inner !== '' && !NOT_ON_A_NODE.test(inner);
}

/** Of what was compiled, that which a program loads or runs. */
function isLoaded(path: string): boolean {
  return /^native\/build\/Release\/([^/]+\.(node|so)|zone_root)$/.test(path);
}

/**
 * Of a module the code that runs: no sources of native code, no tests, no types, no second copy for whoever
 * imports what we require, and nothing for the tools of its developers.
 */
function wantsModuleFile(path: string, directory: string, all: ReadonlySet<string>): boolean {
  const inner = path.slice(directory.length + 1);
  if (inner.startsWith('node_modules/')) {
    return false; // a module of its own in the list, or not needed
  }
  if (inner.startsWith('build/')) {
    return /^build\/Release\/[^/]+\.node$/.test(inner);
  }
  const isCode = /^LICEN[CS]E|\.(js|cjs|json|node)$/i.test(inner);
  const isForImport = inner.endsWith('.js') && all.has(path.replace(/\.js$/, '.cjs'));
  const isForDevelopment =
    /^(deps|tests?|specs?|examples?|benchmarks?|docs|bin|prebuilds|\.github)\//.test(inner) ||
    /(^|[/-])test\.js$|\.spec\.js$/.test(inner);
  return isCode && !isForImport && !isForDevelopment;
}

/**
 * Directories of the packages that are not for development, from the lock file, without the optional ones: all
 * are bunyan's, for log rotation by itself, times of the local zone and DTrace, none of which is used here.
 */
function productionModules(top: string): string[] {
  const lock = lockSchema.parse(JSON.parse(readFileSync(join(top, 'package-lock.json'), 'utf8')));
  return Object.entries(lock.packages)
    .filter(
      ([path, { dev, optional, devOptional }]) =>
        path !== '' && dev !== true && optional !== true && devOptional !== true,
    )
    .map(([path]) => {
      if (statSync(join(top, path), { throwIfNoEntry: false }) === undefined) {
        throw new Error(`${path} is missing: run npm ci`);
      }
      return path;
    });
}

function nodeTree(tree: string): TarEntry[] {
  if (statSync(join(tree, 'bin', 'node'), { throwIfNoEntry: false }) === undefined) {
    const remedy = 'name the directory of a whole Node, with bin/node in it';
    throw new RemediedError(`--node ${tree}: there is no ${join(tree, 'bin', 'node')}`, remedy);
  }
  const own = ['bin/node', 'LICENSE'].filter((path) =>
    statSync(join(tree, path), { throwIfNoEntry: false }),
  );
  return [
    ...own.map((path) => entryOf(tree, path, `node/${path}`)),
    ...librariesOf(tree).map(({ name, file }) => ({
      ...entryOf('/', file, `node/lib/${name}`),
    })),
  ];
}

/**
 * The shared libraries that the tree brings for its Node: pkgsrc's links OpenSSL, libuv and others that are below
 * its own prefix, and nowhere on a node without pkgsrc. Under the names by which they are looked up; node.sh says
 * where they are.
 */
function librariesOf(tree: string): { name: string; file: string }[] {
  const { stdout } = spawnSync('ldd', [join(tree, 'bin', 'node')], { encoding: 'utf8' });
  const prefix = `${realpathSync(tree)}/`;
  return [...(stdout || '').matchAll(/^\s*(\S+)\s+=>\s+(\/\S+)/gm)]
    .map(([, name = '', path = '']) => ({ name, file: realpathSync(path) }))
    .filter(({ file }) => file.startsWith(prefix));
}

/** Paths of all files and links below a directory, relative to `top`. */
function filesBelow(top: string, directory: string): string[] {
  return readdirSync(join(top, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = directory === '.' ? entry.name : `${directory}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(top, path) : [path];
  });
}

function entryOf(top: string, from: string, path: string): TarEntry {
  const file = join(top, from);
  const status = lstatSync(file);
  if (status.isSymbolicLink()) {
    return { kind: 'link', path, target: readlinkSync(file) };
  }
  const executable = (status.mode & 0o111) !== 0;
  return { kind: 'file', path, mode: executable ? EXECUTABLE : PLAIN, data: readFileSync(file) };
}

function textEntry(path: string, text: string, mode = PLAIN): TarEntry {
  return { kind: 'file', path, mode, data: Buffer.from(text) };
}
