/*
 * metadata.json on disk: read whole for a change, and replaced in one step.
 *
 * Called by the file writer, under the VM's lock. The order of the steps of a replacement is what makes
 * it safe to be killed at any of them:
 *
 *   1 temp file, new and empty   2 its bytes, mode, owner   3 fsync it   4 rename it   5 fsync the folder
 *
 * Until 4 the old file is there, from 4 on the new one, and only after 5 does anyone hear of success
 * (sys/durable-file.ts).
 */
import type { BigIntStats } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { codeOf, SystemError } from '../lib/errors';
import type { MetadataMaps } from '../metadata/handler';
import { replaceDurably } from '../platform/durable-file';
import { statOf, textOfStat } from '../platform/file-stat';
import type { Edits, Plan } from './plan';
import { readConfigFile } from '../vm/config-files';
import { editObject } from './json-edit';
import { isJsonObject, own, ownMap, parseJsonObject, type JsonObject } from '../metadata/vm-data';

/** What the VM tool makes it with. */
const DEFAULT_MODE = 0o644;
const EMPTY_FILE = '{"customer_metadata":{},"internal_metadata":{}}';
const MAPS = ['customer_metadata', 'internal_metadata'] as const;

export interface MetadataFile {
  readonly maps: MetadataMaps;
  readonly bytes: Buffer;
  /** Null where there is no file yet. */
  readonly stat: BigIntStats | null;
  readonly identity: string | null;
  /** The file's text with the plan carried out and all else as it was. */
  readonly edited: (plan: Pick<Plan, 'customer' | 'internal'>) => Buffer;
}

/** Where the new text is written before it takes the place of the old: beside it, under one fixed name. */
export function tempPathOf(path: string): string {
  return join(dirname(path), '.metadata.json.mdatad');
}

/**
 * Reads the file for a change. A missing one is as an empty one; anything that is not understood to the
 * last byte is refused with `EBADMSG`, since to rewrite it would lose what it holds.
 */
export function readMetadataFile(path: string): MetadataFile {
  const { bytes, stat } = readOrEmpty(path);
  const object = parseJsonObject(bytes.toString('utf8'));
  if (object === undefined) {
    throw new SystemError('parse', path, 'EBADMSG', 'no JSON object');
  }
  for (const name of MAPS) {
    const map = own(object, name);
    if (map !== undefined && map !== null && !isJsonObject(map)) {
      throw new SystemError('parse', path, 'EBADMSG', `${name} is no object`);
    }
  }
  return {
    maps: mapsOf(object),
    bytes,
    stat,
    identity: stat === null ? null : identityOf(stat),
    edited: (plan) => edit(path, bytes, object, plan),
  };
}

function readOrEmpty(path: string): { bytes: Buffer; stat: BigIntStats | null } {
  try {
    const file = readConfigFile(path);
    if (file.kind === 'refused') {
      throw new SystemError('read', path, 'EBADMSG', file.reason);
    }
    return { bytes: file.bytes, stat: file.stat };
  } catch (err) {
    if (codeOf(err) !== 'ENOENT') {
      throw err;
    }
    return { bytes: Buffer.from(EMPTY_FILE), stat: null };
  }
}

function mapsOf(object: JsonObject): MetadataMaps {
  return {
    customer: ownMap(object, 'customer_metadata'),
    internal: ownMap(object, 'internal_metadata'),
  };
}

function edit(
  path: string,
  bytes: Buffer,
  object: JsonObject,
  plan: Pick<Plan, 'customer' | 'internal'>,
): Buffer {
  const next = editObject(
    bytes,
    new Map([
      ['customer_metadata', asJson(plan.customer)],
      ['internal_metadata', asJson(plan.internal)],
    ]),
  );
  // What we are about to write must say what was asked for, and else what was there.
  const result = parseJsonObject(next.toString('utf8'));
  const before = mapsOf(object);
  const wanted = {
    customer: applied(before.customer, plan.customer),
    internal: applied(before.internal, plan.internal),
  };
  if (result === undefined || !isDeepStrictEqual(mapsOf(result), wanted)) {
    throw new SystemError('edit', path, 'EBADMSG', 'the text cannot be edited safely');
  }
  return next;
}

function asJson(edits: Edits): Map<string, string | undefined> {
  const json = new Map<string, string | undefined>();
  for (const [key, value] of edits) {
    json.set(key, value === undefined ? undefined : JSON.stringify(value));
  }
  return json;
}

function applied(before: ReadonlyMap<string, unknown>, edits: Edits): Map<string, unknown> {
  const after = new Map(before);
  for (const [key, value] of edits) {
    if (value === undefined) {
      after.delete(key);
    } else {
      after.set(key, value);
    }
  }
  return after;
}

/**
 * Puts `bytes` in the place of the file, with the old one's mode and owner. Returns the new file's
 * identity (empty where the path is another's already) when it is on stable storage. On failure of
 * anything before the renaming the old file is untouched, and no temp file is left.
 */
export async function replaceFile(
  path: string,
  bytes: Buffer,
  old: BigIntStats | null,
): Promise<string> {
  const owner = old === null ? null : { uid: Number(old.uid), gid: Number(old.gid) };
  const mode = old === null ? DEFAULT_MODE : Number(old.mode) & 0o7777;
  const look = await replaceDurably({ path, temp: tempPathOf(path), bytes, owner, mode });
  return look === null ? '' : textOfStat(look);
}

function identityOf(stat: BigIntStats): string {
  return textOfStat(statOf(stat));
}
