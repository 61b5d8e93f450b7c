/* What a package is made of and for: the project, from its package.json, and the target. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

export interface Project {
  readonly top: string;
  readonly name: string;
  readonly version: string;
  /** Command name to its built file, as package.json has it. */
  readonly bin: Readonly<Record<string, string>>;
}

export interface Options {
  /** `PLATFORM-ARCH` that the package is for: this machine's, as its native code is compiled here. */
  readonly target: string;
  /** A Node tree (with `bin/node`) of that platform, to go into the package. */
  readonly node: string | undefined;
}

export const THIS_MACHINE = `${process.platform}-${process.arch}`;

const projectSchema = z.object({
  name: z.string(),
  version: z.string(),
  bin: z.record(z.string(), z.string()),
});

/** The project below `top`, from its package.json. */
export function openProject(top: string): Project {
  const parsed = projectSchema.parse(JSON.parse(readFileSync(join(top, 'package.json'), 'utf8')));
  return { top, ...parsed };
}

/** The name of the package, of its file and of the directory in it: with platform and the ABI of Node. */
export function baseNameOf({ name, version }: Project, { target }: Options): string {
  return `${name}-${version}-${target}-abi${process.versions.modules}`;
}
