/*
 * `sdc:routes`: the VM's static routes as its guest wants them, with references to its own interfaces
 * turned into addresses.
 *
 *     {"10.2.2.0/24": "10.2.1.1"}         -> {"linklocal": false, "dst", "gateway": "10.2.1.1"}
 *     {"10.3.0.1": "nics[2]"}             -> {"linklocal": true,  "dst", "gateway": ip of that nic}
 *     {"10.4.0.0/16": "macs[90:b8:...]"}  -> the same, by MAC address
 *
 * A reference that leads nowhere, or to a nic without a fixed address, leaves its route out: a boot
 * script is better off without a route than with one that it cannot parse.
 */

/** One route, its properties in the order in which guests see them. */
export interface Route {
  readonly linklocal: boolean;
  readonly dst: string;
  readonly gateway: string;
}

/**
 * @param routes destination to gateway, in the order of the answer; gateways that are not strings are skipped
 * @param nics the VM's `nics`, whatever is there
 */
export function routesOf(routes: ReadonlyMap<string, unknown>, nics: unknown): Route[] {
  const list: readonly unknown[] = Array.isArray(nics) ? nics : [];
  const result: Route[] = [];
  for (const [dst, gateway] of routes) {
    const route = typeof gateway === 'string' ? routeTo(dst, gateway, list) : null;
    if (route !== null) {
      result.push(route);
    }
  }
  return result;
}

function routeTo(dst: string, gateway: string, nics: readonly unknown[]): Route | null {
  const mac = /^macs\[(.+)\]$/.exec(gateway)?.[1];
  if (mac !== undefined) {
    return throughNic(dst, nicByMac(mac, nics));
  }
  const index = /^nics\[([0-9]+)\]$/.exec(gateway)?.[1];
  if (index !== undefined) {
    return throughNic(dst, nics[Number(index)]);
  }
  return { linklocal: false, dst, gateway };
}

function throughNic(dst: string, nic: unknown): Route | null {
  const ip = textOf(nic, 'ip');
  return ip === undefined || ip === '' || ip === 'dhcp'
    ? null
    : { linklocal: true, dst, gateway: ip };
}

function nicByMac(mac: string, nics: readonly unknown[]): unknown {
  const wanted = macNumber(mac);
  return wanted === null
    ? undefined
    : nics.find((nic) => macNumber(textOf(nic, 'mac') ?? '') === wanted);
}

/**
 * A MAC as the 48-bit number that it is, as it may be written `90:B8:D0:B:0:1`, `90-b8-d0-0b-00-01` or
 * `90b8d00b0001`. Null when it is none.
 */
function macNumber(text: string): number | null {
  if (/^[0-9a-f]{12}$/i.test(text)) {
    return parseInt(text, 16);
  }
  if (!/^[0-9a-f]{1,2}(?:(?::[0-9a-f]{1,2}){5}|(?:-[0-9a-f]{1,2}){5})$/i.test(text)) {
    return null;
  }
  return text.split(/[:-]/).reduce((sum, byte) => sum * 256 + parseInt(byte, 16), 0);
}

function textOf(nic: unknown, name: 'ip' | 'mac'): string | undefined {
  if (typeof nic !== 'object' || nic === null || !Object.hasOwn(nic, name)) {
    return undefined;
  }
  const value: unknown = Reflect.get(nic, name);
  return typeof value === 'string' ? value : undefined;
}
