/*
 * Which zone a person means: by its name or its uuid, by its alias, or by how its name begins. Pure.
 *
 * Tables show eight digits and an ellipsis for a uuid, and other tools write uuids in upper case: both are
 * understood when they are pasted. Used by mdatactl (zone-name.ts there) and by simcn's node (node.ts).
 */

import { editDistance } from './edit-distance';

export interface NamedZone {
  readonly zonename: string;
  readonly alias: string | null;
  /** Where it is other than the name. */
  readonly uuid?: string;
}

/** Names that may have been meant by a word that means no zone, nearest first. */
export function nearestZones(word: string, zones: readonly NamedZone[]): string[] {
  const lower = word.replace(/(\u2026|\.\.\.)$/, '').toLowerCase();
  // One slip in five characters: more of them and another name was meant.
  const most = 1 + Math.floor(lower.length / 5);
  const near = zones.flatMap(({ zonename, alias }) => {
    // Of a longer name the beginning may have been meant.
    const names = [zonename.slice(0, lower.length + 1), zonename.slice(0, lower.length), alias];
    const distances = names.map((name) => editDistance(lower, (name ?? '').toLowerCase(), most));
    const distance = Math.min(...distances);
    return distance <= Math.min(most, lower.length - 1) ? [{ distance, zonename, alias }] : [];
  });
  return near
    .sort((a, b) => a.distance - b.distance)
    .slice(0, MOST_CANDIDATES)
    .map(lineOf);
}

export type Meant =
  | { readonly kind: 'zone'; readonly zonename: string }
  | { readonly kind: 'none' }
  /** Lines of the zones that it could be, some of them; `count` is all. */
  | { readonly kind: 'several'; readonly count: number; readonly candidates: readonly string[] };

/** Shown of those that a word could mean. */
const MOST_CANDIDATES = 5;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The uuid in lower case; null for a word that is not a whole uuid. */
export function wholeUuid(word: string): string | null {
  return UUID.test(word) ? word.toLowerCase() : null;
}

/** A name or an alias counts before the beginning of a name. */
export function zoneMeant(word: string, zones: readonly NamedZone[]): Meant {
  const start = word.replace(/(\u2026|\.\.\.)$/, '');
  if (start === '') {
    return { kind: 'none' };
  }
  const lower = start.toLowerCase();
  const exact = zones.filter(({ zonename, uuid, alias }) => {
    return zonename === word || alias === word || [zonename, uuid].includes(wholeUuid(word) ?? '');
  });
  const found =
    exact.length > 0
      ? exact
      : zones.filter(({ zonename, uuid }) => {
          return zonename.startsWith(start) || (uuid ?? zonename).startsWith(lower);
        });
  const [only] = found;
  if (only === undefined) {
    return { kind: 'none' };
  }
  return found.length === 1
    ? { kind: 'zone', zonename: only.zonename }
    : {
        kind: 'several',
        count: found.length,
        candidates: found.slice(0, MOST_CANDIDATES).map(lineOf),
      };
}

function lineOf({ zonename, alias }: NamedZone): string {
  return `${zonename}  ${alias ?? ''}`.trimEnd();
}
