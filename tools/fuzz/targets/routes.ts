/*
 * Target `routes`: `sdc:routes` is computed as its description says, whatever the routes and the nics hold.
 * Input: routes and nics as lines of text, `R destination gateway`, `N mac ip`, or anything.
 */
import { routesOf } from '../../../src/metadata/sdc';
import { magnitude } from '../features';
import { same } from '../target';
import type { Target } from '../target';

const ODD: readonly unknown[] = [null, 7, true, [], {}, 'x', ['ip'], { ip: 7 }, { mac: null }];
const GATEWAYS: readonly [string, ...string[]] = [
  'nics[0]',
  'nics[00]',
  'nics[1]',
  'nics[-1]',
  'nics[99999999999999999999]',
  'nics[]',
  'NICS[0]',
  'macs[90:b8:d0:f5:e4:f5]',
  'macs[90-B8-D0-F5-E4-F5]',
  'macs[90b8d0f5e4f5]',
  'macs[90:b8:d0:b:0:1]',
  'macs[90:b8-d0:f5:e4:f5]',
  'macs[]',
  'macs[x]]',
  'macs[2:8:20:0:0:1]',
  '10.2.1.1',
  '',
  '#',
];
const MACS: readonly [string, ...string[]] = [
  '90:b8:d0:f5:e4:f5',
  '90:b8:d0:0b:00:01',
  '2:8:20:0:0:1',
  '90b8d0f5e4f5',
  'zz',
  '#',
  '',
];
const ADDRESSES: readonly [string, ...string[]] = ['10.2.1.20', 'dhcp', '', '#', '192.168.7.4'];
const DESTINATIONS: readonly [string, ...string[]] = ['10.3.0.0/16', '__proto__', '10', 'a', '0'];

export const routes: Target = {
  name: 'routes',
  words: [...GATEWAYS, ...MACS, ...ADDRESSES, ...DESTINATIONS, '\n', 'R ', 'N ', 'X'],

  generate(random, draft) {
    const count = random.mostlySmall(10);
    for (let i = 0; i < count; i++) {
      if (random.oneIn(2)) {
        draft.latin1(`N ${random.pick(MACS)} ${random.pick(ADDRESSES)}\n`);
      } else {
        draft.latin1(`R ${random.pick(DESTINATIONS)} ${random.pick(GATEWAYS)}\n`);
      }
    }
  },

  run(input, features) {
    const table = new Map<string, unknown>();
    const nics: unknown[] = [];
    for (const line of input.toString('latin1').split('\n')) {
      const [kind = '', first = '', second = ''] = line.split(' ');
      if (kind === 'R') {
        table.set(first, oddOr(second));
      } else if (kind === 'N') {
        nics.push(first === '#' ? oddOf(second) : { mac: oddOr(first), ip: oddOr(second) });
      }
    }
    const given = input[0] === 0x58 ? ODD[input.length % ODD.length] : nics;
    const list = Array.isArray(given) ? given.map((nic: unknown) => nic) : [];
    const actual = JSON.stringify(routesOf(table, given));
    const wanted = [...table].flatMap(([dst, gateway]) => model(dst, gateway, list));
    same('the routes', actual, `[${wanted.join(',')}]`);
    features.reach(50, magnitude(table.size), magnitude(nics.length), magnitude(wanted.length));
    features.reach(51, magnitude(actual.length), Array.isArray(given) ? 1 : 0);
    for (const gateway of table.values()) {
      const at = typeof gateway === 'string' ? GATEWAYS.indexOf(gateway) : GATEWAYS.length;
      features.reach(52, at + 1, Math.min(wanted.length, 2));
    }
  },
};

/** `#` and what follows it stand for values that are no text. */
function oddOr(text: string): unknown {
  return text.startsWith('#') ? oddOf(text) : text;
}

function oddOf(text: string): unknown {
  return ODD[text.length % ODD.length];
}

function model(dst: string, gateway: unknown, nics: readonly unknown[]): string[] {
  if (typeof gateway !== 'string') {
    return [];
  }
  const [, what, inner = ''] = /^(macs|nics)\[([^]*)\]$/.exec(gateway) ?? [];
  const byIndex = what === 'nics' && /^[0-9]+$/.test(inner);
  const byMac = what === 'macs' && /^.+$/.test(inner);
  if (!byIndex && !byMac) {
    return [actual(false, dst, gateway)];
  }
  const nic = byIndex
    ? nics[Number(inner)]
    : nics.find((one) => normal(inner) !== null && normal(member(one, 'mac')) === normal(inner));
  const ip = member(nic, 'ip');
  return typeof ip === 'string' && ip !== '' && ip !== 'dhcp' ? [actual(true, dst, ip)] : [];
}

function actual(linklocal: boolean, dst: string, gateway: string): string {
  return JSON.stringify({ linklocal, dst, gateway });
}

function member(object: unknown, name: string): unknown {
  const found = Object.entries(Object(object) as object).find(([key]) => key === name);
  return typeof object === 'object' && object !== null ? found?.[1] : undefined;
}

/** A MAC as twelve digits; null for what is none. */
function normal(mac: unknown): string | null {
  if (typeof mac !== 'string') {
    return null;
  }
  if (/^[0-9a-f]{12}$/i.test(mac)) {
    return mac.toLowerCase();
  }
  const bytes = mac.split(mac.includes(':') ? ':' : '-');
  return bytes.length === 6 && bytes.every((byte) => /^[0-9a-f]{1,2}$/i.test(byte))
    ? bytes.map((byte) => byte.toLowerCase().padStart(2, '0')).join('')
    : null;
}
