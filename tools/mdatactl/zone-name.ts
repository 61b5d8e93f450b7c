/*
 * Which of the agent's zones a person means, by whatever name (tools/zone-name.ts).
 */
import { wholeUuid, zoneMeant } from '../zone-name';
import { ControlError, type Client } from './client';

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
  const meant = zoneMeant(word, await client.ask('zones', { path: '/zones' }));
  switch (meant.kind) {
    case 'zone':
      return meant.zonename;
    case 'none':
      return undefined;
    case 'several':
      throw new ControlError(`${word} could be ${meant.count} zones`, meant.candidates);
  }
}
