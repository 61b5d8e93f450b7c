/*
 * Values that no log, error, metric or report may ever show. Every VM of a simulated node holds some where
 * its secrets are (simcn.ts plants them), all that our programs say during the tests is kept (said.ts),
 * and at the end all of it is searched for them (hooks.ts).
 */
import { isJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { base64 } from './frames';

/** A word that is nowhere else. */
export const CANARY = 'CaNaRyBiRd';

let made = 0;

/** A new value for a secret. */
export function canary(): string {
  return `${CANARY}-${++made}`;
}

/** The key of the canary among the values that a guest may read. */
const CANARY_KEY = 'canary';

/**
 * The VM with canaries where customers, operators and the host keep secrets. What a test gave to the VM
 * itself stays; a map that is none stays as broken as the test wants it.
 */
export function withCanaries(vm: object): object {
  const own: JsonObject = { ...vm };
  return {
    // A VM object, as `vmadm get` prints it: from a payload create drops what is not for the brand.
    zone_state: 'running',
    vnc_password: canary(),
    spice_password: canary(),
    ...own,
    customer_metadata: planted(own, 'customer_metadata', [CANARY_KEY, 'admin_pw']),
    internal_metadata: planted(own, 'internal_metadata', ['root_pw', 'hidden']),
  };
}

function planted(vm: JsonObject, name: string, keys: readonly string[]): unknown {
  const map = name in vm ? vm[name] : {};
  const canaries = Object.fromEntries(keys.map((key) => [key, canary()]));
  return isJsonObject(map) ? { ...canaries, ...map } : map;
}

/** The forms that a canary can have in a text: base64 at each of the three places in a group among them. */
export function forms(): string[] {
  const encoded = ['', 'x', 'xx'].map((lead) => {
    // The digits that the bytes around it have no part in.
    return base64(Buffer.from(`${lead}${CANARY}`)).slice(lead.length === 0 ? 0 : 4, -4);
  });
  const bytes = Buffer.from(CANARY);
  return [CANARY, bytes.toString('hex'), [...bytes].join(','), ...encoded];
}

/** The forms of canaries that are in a text. */
export function traces(text: string | Buffer): string[] {
  return forms().filter((form) => text.includes(form));
}
