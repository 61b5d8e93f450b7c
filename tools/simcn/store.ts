/*
 * What the node keeps of a VM on disk, and finds again after a restart.
 *
 *   <root>/system/simcn/vms/<zonename>.json     properties, as zonecfg's XML has them on a real node
 *   <root>/<zonepath>/config/metadata.json      {"customer_metadata":…,"internal_metadata":…}
 *   <root>/<zonepath>/config/{tags,routes}.json
 *
 * The config files have the platform's names and format: the agent and vmadm write them as well, so
 * what the node knows of them is only ever a copy. A missing or unparsable one reads as empty, as the
 * platform's loader has it.
 */
import {
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import type { Paths } from '../../src/platform/paths';
import type { JsonObject } from '../../src/metadata/vm-data';
import { z } from 'zod';

/** How far a zone was installed, by the index's names. */
export type IndexState = 'configured' | 'incomplete' | 'installed';

const absolute = z.string().startsWith('/');
const memory = z.number().int().min(32);
const DEFAULT_KERNEL_MIB = 128;
const DEFAULT_DISK_MIB = 512;

/**
 * What a zone is made of where that is not the template: simcn's own property "simcn" of a payload. Host paths,
 * memory in MiB. A disk is a raw or qcow2 image, which is copied; a rootfs a directory or a tar archive.
 */
export const imageSchema = z.union(
  [
    z.strictObject({
      kernel: absolute,
      initrd: absolute,
      append: z.string().default('console=ttyS0'),
      memory: memory.default(DEFAULT_KERNEL_MIB),
    }),
    z.strictObject({ disk: absolute, memory: memory.default(DEFAULT_DISK_MIB) }),
    z.strictObject({ rootfs: absolute }),
  ],
  {
    error:
      'needs "kernel" and "initrd" (with "append", "memory"), or "disk" (with "memory"), or "rootfs": absolute paths, and MiB from 32 up',
  },
);
export type Image = z.infer<typeof imageSchema>;
export type RealGuest = Exclude<Image, { rootfs: string }>;

/** The files below `<zonepath>/config`, parsed. */
export interface VmConfig {
  readonly customer_metadata: JsonObject;
  readonly internal_metadata: JsonObject;
  readonly tags: JsonObject;
  readonly routes: JsonObject;
}

export interface StoredVm {
  readonly properties: JsonObject;
  readonly indexState: IndexState;
  /** It ran, or was to: it runs again when the node is up again. */
  readonly running: boolean;
  readonly overlay: string | null;
  readonly image: Image | null;
}

const object = z.record(z.string(), z.unknown());
const storedSchema = z.object({
  properties: object,
  indexState: z.enum(['configured', 'incomplete', 'installed']),
  running: z.boolean(),
  overlay: z.string().nullable(),
  image: imageSchema.nullable(),
});
const metadataSchema = z.object({
  customer_metadata: object.default({}),
  internal_metadata: object.default({}),
});

const NO_METADATA = { customer_metadata: {}, internal_metadata: {} };

export const CONFIG_FILE_NAMES = ['metadata.json', 'tags.json', 'routes.json'] as const;
export type ConfigFileName = (typeof CONFIG_FILE_NAMES)[number];

/** The VM objects of one node, in its files. */
export class VmStore {
  private readonly directory: string;
  private readonly saved = new Map<string, string>();

  constructor(paths: Paths) {
    this.directory = paths.host('/system/simcn/vms');
    mkdirSync(this.directory, { recursive: true });
  }

  /** All VMs; a file that an earlier run left half written is passed over. */
  load(): StoredVm[] {
    const found: StoredVm[] = [];
    for (const name of readdirSync(this.directory).sort()) {
      if (!name.endsWith('.json')) {
        continue;
      }
      const parsed = storedSchema.safeParse(readJson(join(this.directory, name)));
      if (parsed.success) {
        found.push(parsed.data);
      }
    }
    return found;
  }

  /** Writes nothing where nothing changed: most changes of a VM are of its state alone. */
  save(zonename: string, vm: StoredVm): void {
    const text = JSON.stringify(vm);
    if (this.saved.get(zonename) !== text) {
      replaceFile(join(this.directory, `${zonename}.json`), text);
      this.saved.set(zonename, text);
    }
  }

  remove(zonename: string): void {
    this.saved.delete(zonename);
    rmSync(join(this.directory, `${zonename}.json`), { force: true });
  }
}

/** Reads files of a config directory; the others are as in `known`. Never throws. */
export function readConfig(
  directory: string,
  names: Iterable<ConfigFileName> = CONFIG_FILE_NAMES,
  known: VmConfig = { ...NO_METADATA, tags: {}, routes: {} },
): VmConfig {
  let config = known;
  for (const name of names) {
    const content = readJson(join(directory, name));
    const flat = object.safeParse(content).data ?? {};
    switch (name) {
      case 'metadata.json':
        config = { ...config, ...(metadataSchema.safeParse(content).data ?? NO_METADATA) };
        break;
      case 'tags.json':
        config = { ...config, tags: flat };
        break;
      case 'routes.json':
        config = { ...config, routes: flat };
        break;
    }
  }
  return config;
}

/** Writes the three files below a zone's `config`, each in one step. */
export function writeConfig(directory: string, config: VmConfig): void {
  const { customer_metadata, internal_metadata, tags, routes } = config;
  writeConfigFile(directory, 'metadata.json', { customer_metadata, internal_metadata });
  writeConfigFile(directory, 'tags.json', tags);
  writeConfigFile(directory, 'routes.json', routes);
}

/** @param name `metadata.json`, `tags.json` or `routes.json` */
export function writeConfigFile(directory: string, name: string, content: JsonObject): void {
  replaceFile(join(directory, name), `${JSON.stringify(content, null, 2)}\n`);
}

function replaceFile(path: string, text: string): void {
  const temporary = `${path}.new`;
  try {
    writeFileSync(temporary, text, { mode: 0o644 });
    renameSync(temporary, path);
  } catch (err) {
    rmSync(temporary, { force: true });
    throw err;
  }
}

/** The file's content; undefined where there is no regular file, or none that holds JSON. */
function readJson(path: string): unknown {
  try {
    // A device may have no end, and a pipe no beginning.
    const content: unknown = statSync(path).isFile()
      ? JSON.parse(readFileSync(path, 'utf8'))
      : undefined;
    return content;
  } catch {
    // Gone, unreadable or no JSON: a zone's files can be anything, and the node goes on.
    return undefined;
  }
}
