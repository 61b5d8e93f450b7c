/*
 * Which zone a person means: by its whole name, its alias, or the beginning of its uuid.
 */
import { ControlError, type Client } from './client';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Shown of those that a word could mean. */
const MOST_CANDIDATES = 5;

/** A whole uuid is taken as it is: what became of a zone that is gone can be asked too. */
export async function findZone(client: Client, word: string): Promise<string> {
  if (UUID.test(word)) {
    return word.toLowerCase();
  }
  const zones = await client.ask('zones', { path: '/zones' });
  const exact = zones.filter(({ zonename, alias }) => zonename === word || alias === word);
  const found = exact.length > 0 ? exact : zones.filter((z) => z.zonename.startsWith(word));
  const [first, ...others] = found;
  if (first === undefined) {
    throw new ControlError(`no zone is named ${word}`, ['mdatactl zones lists them']);
  }
  if (others.length > 0) {
    const shown = found.slice(0, MOST_CANDIDATES).map(({ zonename, alias }) => {
      return `${zonename}  ${alias ?? ''}`.trimEnd();
    });
    throw new ControlError(`${word} could be ${found.length} zones`, shown);
  }
  return first.zonename;
}
