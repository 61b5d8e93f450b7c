/*
 * The zones of the node that the whole agent is fuzzed on: numbers in steps, uuids on the node. No step
 * touches the healthy ones; the others suffer everything.
 *
 * Every VM has a canary in its metadata: a word that is nowhere else, and that no log may hold.
 */
import { toBase64 } from '../model/wire';

export const HEALTHY = [0, 1] as const;
/** It asks through its serial port. */
export const HEALTHY_GUEST = 2;
export const SUFFERING = [3, 4, 5, 6, 7, 8] as const;
export type Sufferer = (typeof SUFFERING)[number];

const GUEST_BRANDS = new Map([
  [HEALTHY_GUEST, 'bhyve'],
  [7, 'bhyve'],
  [8, 'kvm'],
]);

export const MOTD = 'hello';
export const CANARY = 'CaNaRyBiRd';

/** The canary as it is, in hex, and in base64 at each of the three places in a group. */
const TRACES = [
  CANARY,
  Buffer.from(CANARY).toString('hex'),
  ...['', 'x', 'xx'].map((lead) => {
    // The digits that the bytes around it have no part in.
    return toBase64(`${lead}${CANARY}`).slice(lead === '' ? 0 : 4, -4);
  }),
];

/** Whether a text holds a trace of a value that must never be disclosed. */
export function holdsCanary(text: string): boolean {
  return TRACES.some((trace) => text.includes(trace));
}

/** Whether the zone of this number is an HVM guest. */
export function isGuest(zone: number): boolean {
  return GUEST_BRANDS.has(zone);
}

/** The uuid of the zone of this number. */
export function uuidOf(zone: number): string {
  return `f0220000-0000-4000-8000-${zone.toString(16).padStart(12, '0')}`;
}

/** The VM object of the zone of this number. */
export function vmOf(zone: number): object {
  return {
    uuid: uuidOf(zone),
    brand: GUEST_BRANDS.get(zone) ?? 'joyent',
    customer_metadata: { motd: MOTD, 'user-script': CANARY, big: 'b'.repeat(200_000) },
    internal_metadata: { root_pw: CANARY, 'docker:env': CANARY },
    internal_metadata_namespaces: ['docker'],
    vnc_password: CANARY,
  };
}
