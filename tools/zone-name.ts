/*
 * Which zone a person means: by its whole name, its alias, or the beginning of its uuid. One rule for every tool.
 *
 * What is pasted may be uppercase and may end in an ellipsis, as other tools shorten uuids. Pure.
 */

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const ELLIPSIS = /(\u2026|\.{3})$/;

export interface NamedZone {
  readonly zonename: string;
  readonly alias: string | null;
}

/** A whole uuid in lowercase; undefined where the word is none. */
export function wholeUuid(word: string): string | undefined {
  return UUID.test(word) ? word.toLowerCase() : undefined;
}

/** The zones that a word can mean: at most one where it is a whole name or an alias of a single zone. */
export function zonesMeant<Z extends NamedZone>(zones: readonly Z[], word: string): Z[] {
  const exact = zones.filter(({ zonename, alias }) => zonename === word || alias === word);
  if (exact.length > 0) {
    return exact;
  }
  const beginning = word.replace(ELLIPSIS, '').toLowerCase();
  return beginning === ''
    ? []
    : zones.filter(({ zonename }) => zonename.toLowerCase().startsWith(beginning));
}
