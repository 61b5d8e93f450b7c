/*
 * Brand, path and state of a zone in one call of the addon (native/zone_facts.h). The same three by ffi
 * cost four times as much, which a node with thousands of zones would see in its start. Called by
 * sys/ffi, which knows what root the library works on.
 */
import { SystemError } from '../lib/errors';
import { Z_OK, ZONE_STATES, zonecfgCode } from './abi';
import { loadAddon } from './addon';

/** What libzonecfg tells of a configured zone. */
export interface ZoneFacts {
  readonly zonename: string;
  readonly brand: string;
  /** Platform path, no trailing slash. */
  readonly zonepath: string;
  readonly state: (typeof ZONE_STATES)[number];
}

// As in native/zone_facts.h.
const CALLS = ['zone_get_brand', 'zone_get_zonepath', 'zone_get_state'] as const;
const NO_ZONE = 'Z_NO_ZONE';

/** Brands are few and zones many: one string for all that are the same. */
const brands = new Map<string, string>();
const into = new Int32Array(3);

/** Undefined where no such zone is configured. @throws SystemError, the call that failed and its code */
export function zoneFacts(zonename: string): ZoneFacts | undefined {
  const texts = loadAddon().zoneFacts(zonename, into);
  const [code = Z_OK, call = 0, number = -1] = into;
  if (texts === null) {
    const name = zonecfgCode(code);
    if (name === NO_ZONE) {
      return undefined;
    }
    throw new SystemError(CALLS[call] ?? 'zone_facts', zonename, name);
  }
  const state = ZONE_STATES[number];
  if (state === undefined) {
    throw new SystemError('zone_get_state', zonename, 'Z_BAD_ZONE_STATE', `zone state ${number}`);
  }
  return { zonename, brand: same(texts[0]), zonepath: texts[1], state };
}

function same(brand: string): string {
  const known = brands.get(brand);
  if (known === undefined) {
    brands.set(brand, brand);
  }
  return known ?? brand;
}
