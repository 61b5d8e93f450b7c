/*
 * Finds the zone that a person means among those that the agent holds.
 */
import { wholeUuid, zonesMeant } from '../zone-name';
import { ControlError, type Client } from './client';

/** Shown of those that a word could mean. */
const MOST_CANDIDATES = 5;

/** A whole uuid is taken as it is: what became of a zone that is gone can be asked too. */
export async function findZone(client: Client, word: string): Promise<string> {
  const found = wholeUuid(word) ?? (await heldZone(client, word));
  if (found === undefined) {
    throw new ControlError(`no zone is named ${word}`, ['mdatactl zones lists them']);
  }
  return found;
}

/** The same, but a word that means none of the agent's zones is the name of one it has yet to hear of. */
export async function findZoneOrNew(client: Client, word: string): Promise<string> {
  return wholeUuid(word) ?? (await heldZone(client, word)) ?? word;
}

async function heldZone(client: Client, word: string): Promise<string | undefined> {
  const found = zonesMeant(await client.ask('zones', { path: '/zones' }), word);
  if (found.length > 1) {
    const shown = found.slice(0, MOST_CANDIDATES).map(({ zonename, alias }) => {
      return `${zonename}  ${alias ?? ''}`.trimEnd();
    });
    throw new ControlError(`${word} could be ${found.length} zones`, shown);
  }
  return found[0]?.zonename;
}
