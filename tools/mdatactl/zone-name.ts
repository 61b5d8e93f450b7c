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
  const found = await heldZone(client, word);
  if (found === undefined) {
    throw new ControlError(`no zone is named ${word}`, ['mdatactl zones lists them']);
  }
  return found;
}

/** The same, but a word that means none of the agent's zones is the name of one it has yet to hear of. */
export async function findZoneOrNew(client: Client, word: string): Promise<string> {
  return UUID.test(word) ? word.toLowerCase() : ((await heldZone(client, word)) ?? word);
}

async function heldZone(client: Client, word: string): Promise<string | undefined> {
  const zones = await client.ask('zones', { path: '/zones' });
  const exact = zones.filter(({ zonename, alias }) => zonename === word || alias === word);
  const found = exact.length > 0 ? exact : zones.filter((z) => z.zonename.startsWith(word));
  if (found.length > 1) {
    const shown = found.slice(0, MOST_CANDIDATES).map(({ zonename, alias }) => {
      return `${zonename}  ${alias ?? ''}`.trimEnd();
    });
    throw new ControlError(`${word} could be ${found.length} zones`, shown);
  }
  return found[0]?.zonename;
}
