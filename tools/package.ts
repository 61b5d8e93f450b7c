#!/usr/bin/env node
/*
 * npm run package: makes mdatad-VERSION-PLATFORM-ARCH-abiN.tgz, all that a node needs to run mdatad, from a built
 * checkout, and its checksum beside it, for sha256sum -c or digest -a sha256. N is the ABI of the Node that the
 * native code was compiled with (process.versions.modules).
 *
 * The same checkout gives the same bytes. `--dry-run` says what would be made, `--list` names each file of it; both
 * write nothing.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import { counted } from '../src/admin/format';
import { explain } from '../src/lib/errors';
import { contentsOf } from './package/contents';
import {
  baseNameOf,
  openProject,
  THIS_MACHINE,
  type Options,
  type Project,
} from './package/project';
import { tarOf, type TarEntry } from './package/tar';
import { packageVersion } from '../src/lib/version';

/** Digits of the content's hash in a release's name: enough to tell two builds of one version apart. */
const ID_DIGITS = 8;

interface Flags {
  readonly top: string;
  readonly out: string;
  readonly target: string;
  readonly node?: string;
  readonly dryRun?: true;
  readonly list?: true;
}

function main(): void {
  const flags = new Command('package')
    .description('makes the package that installs mdatad on a SmartOS node')
    .version(packageVersion(), '--version', 'print the version')
    .option('--node <dir>', "a Node tree of the target's platform to put in (with bin/node)")
    .option('--target <platform-arch>', 'what the package is for', THIS_MACHINE)
    .option('--out <dir>', 'where the package goes', '.')
    .option('--top <dir>', 'the built checkout', resolve(__dirname, '..', '..'))
    .option('--dry-run', 'say what would be made, and make nothing')
    .option('--list', 'name each file that would go in, and make nothing')
    .parse()
    .opts<Flags>();
  const project = openProject(flags.top);
  const options: Options = { target: flags.target, node: flags.node };
  const contents = contentsOf(project, options);
  const release = releaseEntry(project, options, contents);
  const base = baseNameOf(project, options);
  const entries = [...contents, release].map((entry) => ({
    ...entry,
    path: `${base}/${entry.path}`,
  }));
  if (flags.list) {
    process.stdout.write(
      entries
        .map(({ path }) => `${path}\n`)
        .sort()
        .join(''),
    );
    return;
  }
  const archive = gzipSync(tarOf(entries), { level: 9 });
  const path = join(flags.out, `${base}.tgz`);
  if (flags.dryRun) {
    process.stdout.write(summaryOf(path, options, entries, archive.length));
    return;
  }
  writeFileSync(path, archive);
  const sum = createHash('sha256').update(archive).digest('hex');
  writeFileSync(`${path}.sha256`, `${sum}  ${base}.tgz\n`);
  process.stdout.write(
    `${path}: ${entries.length} files, ${archive.length} bytes, sha256 ${sum}\n`,
  );
}

/** What would be made, for people: one line for each directory and each npm package, the largest first. */
function summaryOf(
  path: string,
  { target, node }: Options,
  entries: readonly TarEntry[],
  archiveBytes: number,
): string {
  const parts = new Map<string, { files: number; bytes: number }>();
  for (const entry of entries) {
    const [, part = ''] = /^[^/]+\/(node_modules\/(?:@[^/]+\/)?[^/]+|[^/]+)/.exec(entry.path) ?? [];
    const { files, bytes } = parts.get(part) ?? { files: 0, bytes: 0 };
    const size = entry.kind === 'file' ? entry.data.length : 0;
    parts.set(part, { files: files + 1, bytes: bytes + size });
  }
  const width = Math.max(...[...parts.keys()].map((part) => part.length));
  const rows = [...parts]
    .sort(([, a], [, b]) => b.bytes - a.bytes)
    .map(([part, { files, bytes }]) => {
      const named = part.padEnd(width);
      return `  ${named}  ${counted(files, 'file').padStart(9)}  ${kib(bytes).padStart(9)}\n`;
    });
  const lines = [
    `would make ${path} (${kib(archiveBytes)}) and ${path}.sha256\n`,
    `for ${target} and Node of ABI ${process.versions.modules}, `,
    node === undefined ? 'without a Node of its own\n' : `with the Node of ${node}\n`,
    `${counted(entries.length, 'file')}:\n`,
  ];
  return [...lines, ...rows].join('');
}

function kib(bytes: number): string {
  return `${Math.ceil(bytes / 1024)} KiB`;
}

/** What the install scripts read: `name=value` lines. The id tells builds of one version apart. */
function releaseEntry(project: Project, options: Options, contents: readonly TarEntry[]): TarEntry {
  const id = createHash('sha256').update(tarOf(contents)).digest('hex').slice(0, ID_DIGITS);
  const lines = [
    `name=${project.name}`,
    `version=${project.version}`,
    `id=${project.version}-${id}`,
    `target=${options.target}`,
    `abi=${process.versions.modules}`,
  ];
  return { kind: 'file', path: 'RELEASE', mode: 0o644, data: Buffer.from(`${lines.join('\n')}\n`) };
}

try {
  main();
} catch (err) {
  process.stderr.write(explain('package', err));
  process.exitCode = 1;
}
