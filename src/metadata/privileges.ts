/*
 * A zone's `limit_priv`, read for one question: may the zone receive a ZFS stream?
 *
 * `zfs recv` needs the privilege sys_fs_import. A list is written as zonecfg's limitpriv: names with
 * commas between, `!name` or `-name` takes a privilege out again, and `default`, `basic`, `all` and
 * `zone` stand for whole sets. Items count from left to right, so the last word on a privilege wins.
 * Names are caseless and may carry the prefix `priv_`: `PRIV_SYS_FS_IMPORT` is the same privilege, and
 * a reader that misses it lets a refused list through.
 *
 * Called by metadata/datasets (what a guest is told) and by datasets/ (policy and audit); it lives here
 * since this is the lower of the two. It does not know which other names exist: the platform
 * refuses a name that it does not know.
 */

/** The privilege that `zfs recv` needs. */
export const IMPORT_PRIVILEGE = 'sys_fs_import';

/** What a list without a word on anything stands for, with the one exclusion that matters. */
const DEFAULT_WITHOUT_IMPORT = `default,-${IMPORT_PRIVILEGE}`;

/** All that holds sys_fs_import. `zone` is read in the global zone, where it is every privilege. */
const HOLDS_IMPORT: ReadonlySet<string> = new Set([IMPORT_PRIVILEGE, 'default', 'all', 'zone']);

/** Sets and names alike; digits occur in no privilege today but cost nothing. */
const NAME = /^[a-z][a-z0-9_]*$/;

/** One item of a list. The name is in lower case, without `priv_`. */
export interface Privilege {
  readonly name: string;
  readonly removed: boolean;
}

export type PrivilegeList =
  | { readonly kind: 'list'; readonly items: readonly Privilege[] }
  /** `text` says what is wrong, with the item in question. */
  | { readonly kind: 'malformed'; readonly text: string };

/**
 * How a list grants sys_fs_import: not at all, only because it starts from `default`, or by name
 * (its own, or that of a set other than `default`).
 */
export type ImportGrant = 'none' | 'default' | 'named';

/**
 * Reads a `limit_priv` member: text, or an array of texts, as the VM tool takes both. A missing,
 * null or empty one is the list without items, which the platform reads as `default`.
 */
export function parsePrivileges(value: unknown): PrivilegeList {
  const text = listText(value);
  if (text === undefined) {
    return { kind: 'malformed', text: 'it is neither a text nor a list of texts' };
  }
  const items: Privilege[] = [];
  for (const raw of text.split(',')) {
    const word = raw.trim().toLowerCase();
    if (word === '') {
      continue;
    }
    const removed = word.startsWith('!') || word.startsWith('-');
    const name = (removed ? word.slice(1) : word).replace(/^priv_/, '');
    if (!NAME.test(name)) {
      return { kind: 'malformed', text: `${shortened(raw.trim())} is no privilege` };
    }
    items.push({ name, removed });
  }
  return { kind: 'list', items };
}

/** How the list grants sys_fs_import. */
export function importGrant(items: readonly Privilege[]): ImportGrant {
  // Nothing said means `default`. A list that opens with a removal names nothing to remove from: it is
  // read as starting from `default` too, the reading that errs to the safe side.
  let grant: ImportGrant = items[0]?.removed === false ? 'none' : 'default';
  for (const { name, removed } of items) {
    if (!HOLDS_IMPORT.has(name)) {
      continue;
    }
    if (removed) {
      grant = 'none';
    } else if (name !== 'default') {
      grant = 'named';
    } else if (grant === 'none') {
      grant = 'default';
    }
  }
  return grant;
}

/**
 * The same `limit_priv` with sys_fs_import taken out at its end; text stays text, an array stays an
 * array, and what was written stays as it was written.
 *
 * @param value one that `parsePrivileges` read as a list
 */
export function withoutImport(value: unknown): string | readonly string[] {
  if (isTexts(value)) {
    return value.length === 0 ? DEFAULT_WITHOUT_IMPORT : [...value, `-${IMPORT_PRIVILEGE}`];
  }
  const kept = typeof value === 'string' ? value.replace(/[\s,]+$/, '') : '';
  return kept === '' ? DEFAULT_WITHOUT_IMPORT : `${kept},-${IMPORT_PRIVILEGE}`;
}

function listText(value: unknown): string | undefined {
  if (value === undefined || value === null) {
    return '';
  }
  if (typeof value === 'string') {
    return value;
  }
  return isTexts(value) ? value.join(',') : undefined;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** Quoted, and cut: a reason is read by people. */
function shortened(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}...` : text);
}
