/*
 * What goes into the package: the list of its entries, from a built checkout.
 *
 * Used by `npm run package`. Reads files, writes none. Only what a node runs goes in: no tests, no
 * tools of development, no package that the daemon does not need.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { completionScript } from '../man/completion';
import { COMMANDS, fileNameOf } from '../man/commands';
import { manPage } from '../man/roff';
import { packageReadme } from './readme';
import type { TarEntry } from './tar';

export interface Project {
  readonly top: string;
  readonly name: string;
  readonly version: string;
  /** Command name to its built file, as package.json has it. */
  readonly bin: Readonly<Record<string, string>>;
}

export interface Options {
  /** `PLATFORM-ARCH` that the package is for; compiled code goes in only if it is this machine's. */
  readonly target: string;
  /** A Node tree (with `bin/node`) of that platform, to go into the package. */
  readonly node: string | undefined;
}

const EXECUTABLE = 0o755;
const PLAIN = 0o644;

/** Built tools that are for developers. */
const NOT_ON_A_NODE = /^tools\/(package|fuzz|bench|quickstart|simcn)\b/;

const projectSchema = z.object({
  name: z.string(),
  version: z.string(),
  bin: z.record(z.string(), z.string()),
});

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({ dev: z.boolean().optional(), optional: z.boolean().optional() }),
  ),
});

export const THIS_MACHINE = `${process.platform}-${process.arch}`;

/** The project below `top`, from its package.json. */
export function openProject(top: string): Project {
  const parsed = projectSchema.parse(JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')));
  return { top, ...parsed };
}

/** All entries but RELEASE, paths relative to the package. Throws when something is not built. */
export function contentsOf(project: Project, options: Options): TarEntry[] {
  const { top } = project;
  const compiled = options.target === THIS_MACHINE;
  const programs = filesBelow(top, 'dist').filter(isProgram);
  const taken = [
    ...programs,
    ...filesBelow(top, 'native').filter((path) => wantsNative(path, compiled)),
    ...filesBelow(top, 'smf'),
    ...productionModules(top).flatMap((folder) =>
      filesBelow(top, folder).filter((path) => wantsModuleFile(path, folder, compiled)),
    ),
    'package.json',
    'package-lock.json',
    'LICENSE',
  ];
  if (!programs.includes('dist/src/main.js')) {
    throw new Error('dist/src/main.js is missing: run npm run build');
  }
  if (compiled && !taken.includes('native/build/Release/mdatad.node')) {
    throw new Error('native/build/Release/mdatad.node is missing: run npm run build');
  }
  const node = options.node === undefined ? [] : nodeTree(options.node);
  return [
    ...taken.map((path) => entryOf(top, path, path)),
    ...generated(project, options),
    ...node,
  ];
}

/** What is made for the package and lies nowhere in the checkout. */
function generated(project: Project, options: Options): TarEntry[] {
  const commands = Object.entries(project.bin)
    .filter(([, file]) => isProgram(file))
    .map(([name, file]) => textEntry(`bin/${name}`, wrapper(file), EXECUTABLE));
  const pages = COMMANDS.map((command) =>
    textEntry(
      `man/man${command.section}/${fileNameOf(command)}`,
      manPage(command, project.version),
    ),
  );
  return [
    ...commands,
    ...pages,
    textEntry('completion/mdatad.bash', completionScript(COMMANDS)),
    textEntry('README.md', packageReadme(project, options)),
  ];
}

/** A command of bin/: the script runs with mdatad's own Node, whatever `node` the PATH has. */
function wrapper(file: string): string {
  return `#!/bin/sh
release=$(cd -P "$(dirname "$0")/.." && pwd -P)
. "$release/smf/lib/node.sh"
if ! find_node "$release" "\${release%/versions/*}"; then
	echo "\${0##*/}: there is no Node for mdatad: run smf/install --node DIR" >&2
	exit 95
fi
exec "$node" "$release/${file}" "$@"
`;
}

function isProgram(path: string): boolean {
  const [, inner = ''] = /^dist\/((?:src|tools)\/.*\.js)$/.exec(path) ?? [];
  return inner !== '' && !NOT_ON_A_NODE.test(inner);
}

/** Sources always, so that a node's owner can build; of what was built only what is loaded. */
function wantsNative(path: string, compiled: boolean): boolean {
  if (path.startsWith('native/build/')) {
    return compiled && /^native\/build\/Release\/[^/]+\.(node|so)$/.test(path);
  }
  return true;
}

function wantsModuleFile(path: string, folder: string, compiled: boolean): boolean {
  const inner = path.slice(folder.length + 1);
  if (inner.startsWith('node_modules/')) {
    return false; // a module of its own in the list, or not needed
  }
  if (inner.startsWith('build/')) {
    return compiled && /^build\/Release\/[^/]+\.node$/.test(inner);
  }
  if (/\.(map|ts|mts|cts)$/.test(inner)) {
    return false;
  }
  // The sources of other people's native code are of use only where it is yet to be compiled.
  return !compiled || !/^(deps|test|example|prebuilds)\//.test(inner);
}

/** Folders of the packages that are not for development, from the lock file. */
function productionModules(top: string): string[] {
  const lock = lockSchema.parse(JSON.parse(readFileSync(join(top, 'package-lock.json'), 'utf8')));
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .filter(([path, { optional }]) => {
      const there = statSync(join(top, path), { throwIfNoEntry: false }) !== undefined;
      if (!there && optional !== true) {
        throw new Error(`${path} is missing: run npm ci`);
      }
      return there;
    })
    .map(([path]) => path);
}

function nodeTree(tree: string): TarEntry[] {
  if (statSync(join(tree, 'bin', 'node'), { throwIfNoEntry: false }) === undefined) {
    throw new Error(`--node ${tree}: there is no ${join(tree, 'bin', 'node')}`);
  }
  // Of a Node tree the daemon needs the program and, where it is built so, its libraries.
  return filesBelow(tree, '.')
    .filter((path) => path === 'bin/node' || path === 'LICENSE' || /^lib\/[^/]+\.so/.test(path))
    .map((path) => entryOf(tree, path, `node/${path}`));
}

/** Paths of all files and links below a folder, relative to `top`. */
function filesBelow(top: string, folder: string): string[] {
  return readdirSync(join(top, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '.' ? entry.name : `${folder}/${entry.name}`;
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
