/*
 * What changed between two VM objects, in vminfod's words.
 *
 * Objects are compared name by name; arrays as sets of their elements, so that a new order alone is no
 * change. Elements of `nics` and `disks` have an identity (`mac`, `path`): two with the same one are
 * compared inside. Pure.
 */
import { isJsonObject, own, type JsonObject } from '../../src/metadata/vm-data';

export interface ChangeRecord {
  readonly prettyPath: string;
  /** Null stands for some element of an array. */
  readonly path: readonly (string | null)[];
  readonly action: 'added' | 'removed' | 'changed';
  readonly oldValue?: unknown;
  readonly newValue?: unknown;
  readonly ident?: string;
}

type Path = readonly (string | null)[];

/** What tells the elements of an array apart. */
const IDENTITY: ReadonlyMap<string, string> = new Map([
  ['nics', 'mac'],
  ['disks', 'path'],
]);

/** The changes as vminfod's `modify` event lists them. */
export function changesBetween(before: JsonObject, after: JsonObject): ChangeRecord[] {
  return objectChanges([], before, after, undefined);
}

function objectChanges(
  path: Path,
  before: JsonObject,
  after: JsonObject,
  ident: string | undefined,
): ChangeRecord[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].flatMap((name) => {
    const at = [...path, name];
    const oldValue = own(before, name);
    const newValue = own(after, name);
    if (!Object.hasOwn(before, name)) {
      return [record(at, { action: 'added', newValue }, ident)];
    }
    if (!Object.hasOwn(after, name)) {
      return [record(at, { action: 'removed', oldValue }, ident)];
    }
    return valueChanges(at, oldValue, newValue, ident);
  });
}

function valueChanges(
  path: Path,
  oldValue: unknown,
  newValue: unknown,
  ident: string | undefined,
): ChangeRecord[] {
  if (JSON.stringify(oldValue) === JSON.stringify(newValue)) {
    return [];
  }
  if (isJsonObject(oldValue) && isJsonObject(newValue)) {
    return objectChanges(path, oldValue, newValue, ident);
  }
  if (Array.isArray(oldValue) && Array.isArray(newValue)) {
    return arrayChanges(path, oldValue, newValue);
  }
  return [record(path, { action: 'changed', oldValue, newValue }, ident)];
}

function arrayChanges(path: Path, before: unknown[], after: unknown[]): ChangeRecord[] {
  const old = new Map(before.map((element) => [JSON.stringify(element), element]));
  const fresh = new Map(after.map((element) => [JSON.stringify(element), element]));
  const at = [...path, null];
  const removed = [...old].filter(([text]) => !fresh.has(text)).map(([, element]) => element);
  const added = [...fresh].filter(([text]) => !old.has(text)).map(([, element]) => element);
  const identity = IDENTITY.get(path[0] ?? '');
  const records: ChangeRecord[] = [];
  for (const oldValue of removed) {
    const ident = identOf(oldValue, identity);
    const twin = added.findIndex((element) => {
      return ident !== undefined && identOf(element, identity) === ident;
    });
    const newValue = added[twin];
    if (isJsonObject(oldValue) && isJsonObject(newValue)) {
      added.splice(twin, 1);
      records.push(...objectChanges(at, oldValue, newValue, ident));
    } else {
      records.push(record(at, { action: 'removed', oldValue }, ident));
    }
  }
  for (const newValue of added) {
    records.push(record(at, { action: 'added', newValue }, identOf(newValue, identity)));
  }
  return records;
}

function identOf(element: unknown, identity: string | undefined): string | undefined {
  const value =
    isJsonObject(element) && identity !== undefined ? own(element, identity) : undefined;
  return typeof value === 'string' ? value : undefined;
}

function record(
  path: Path,
  what: Pick<ChangeRecord, 'action' | 'oldValue' | 'newValue'>,
  ident: string | undefined,
): ChangeRecord {
  const prettyPath = path.map(prettyName).join('.');
  return { prettyPath, path, ...what, ...(ident === undefined ? {} : { ident }) };
}

function prettyName(name: string | null): string {
  if (name === null) {
    return '*';
  }
  return /[.[\]]/.test(name) ? `[${name}]` : name;
}
