#!/usr/bin/env node
/*
 * npm run package: makes mdatad-VERSION-PLATFORM-ARCH-abiN.tgz, all that a node needs to run mdatad, from a built
 * checkout, and its checksum beside it, for sha256sum -c or digest -a sha256. N is the ABI of the Node that the
 * native code was compiled with (process.versions.modules).
 *
 * The same checkout gives the same bytes. `--dry-run` lists what would go in and writes nothing.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import { explain } from '../src/lib/explain';
import {
  contentsOf,
  openProject,
  THIS_MACHINE,
  type Options,
  type Project,
} from './package/contents';
import { tarOf, type TarEntry } from './package/tar';

/** Digits of the content's hash in a release's name: enough to tell two builds of one version apart. */
const ID_DIGITS = 8;

interface Flags {
  readonly top: string;
  readonly out: string;
  readonly target: string;
  readonly node?: string;
  readonly dryRun?: true;
}

function main(): void {
  const flags = new Command('package')
    .description('makes the package that installs mdatad on a SmartOS node')
    .option('--node <dir>', "a Node tree of the target's platform to put in (with bin/node)")
    .option('--target <platform-arch>', 'what the package is for', THIS_MACHINE)
    .option('--out <dir>', 'where the package goes', '.')
    .option('--top <dir>', 'the built checkout', resolve(__dirname, '..', '..'))
    .option('--dry-run', 'list what would go in')
    .parse()
    .opts<Flags>();
  const project = openProject(flags.top);
  const options: Options = { target: flags.target, node: flags.node };
  const contents = contentsOf(project, options);
  const release = releaseEntry(project, options, contents);
  const base = `${project.name}-${project.version}-${options.target}-abi${process.versions.modules}`;
  const entries = [...contents, release].map((entry) => ({
    ...entry,
    path: `${base}/${entry.path}`,
  }));
  if (flags.dryRun) {
    const paths = entries.map((entry) => entry.path).sort();
    process.stdout.write(`${paths.join('\n')}\n`);
    return;
  }
  const archive = gzipSync(tarOf(entries), { level: 9 });
  const path = join(flags.out, `${base}.tgz`);
  writeFileSync(path, archive);
  const sum = createHash('sha256').update(archive).digest('hex');
  writeFileSync(`${path}.sha256`, `${sum}  ${base}.tgz\n`);
  process.stdout.write(
    `${path}: ${entries.length} files, ${archive.length} bytes, sha256 ${sum}\n`,
  );
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
