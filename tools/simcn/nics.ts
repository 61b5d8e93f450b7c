/*
 * The nics of a VM, from what a payload says of them to what the VM object has.
 *
 * A payload may give an address as `ip` and `netmask` or as `ips`, a router as `gateway` or as `gateways`,
 * and leave out the MAC and the interface's name. The VM object has all of them: the guest's own set-up
 * (mdata-fetch, zoneinit) loops over interface names and does nothing for a nic that has none. The rules
 * are those of smartos-live: nic.js (upgradeNic, updateNic), ip.js, and VM.js (normalizeNics,
 * checkPayloadProperties, buildNicZonecfg). Pure but for the MACs that it makes up.
 */
import { randomInt } from 'node:crypto';
import { isIP, isIPv4, isIPv6 } from 'node:net';

import { isJsonObject, own, ownString, type JsonObject } from '../../src/metadata/vm-data';
import { kindOf, listOf, type BrandName } from './properties';

export type Nic = Record<string, unknown>;

/** A payload that the platform refuses; the message is what vmadm says. */
export class PayloadError extends Error {}

/** Members that `update_nics` changes: those that proptable.js calls updatable. */
const NOT_UPDATABLE = ['interface', 'allowed_ips', 'allowed_dhcp_cids'];
const MOST_IPS = 20;

/** A value of a payload in a message. */
export function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Nics of a payload as objects of our own, with numbers, lists and truth values in their own types. */
export function nicsOf(value: unknown): Nic[] {
  const list = Array.isArray(value) ? value.filter(isJsonObject) : [];
  return list.map((nic) => {
    const typed = Object.entries(nic).map(([name, given]) => [name, typedMember(name, given)]);
    return Object.fromEntries(typed) as Nic;
  });
}

function typedMember(name: string, value: unknown): unknown {
  switch (kindOf(`nics.*.${name}`)) {
    case 'integer':
      return typeof value === 'string' && value !== '' ? Number(value) : value;
    case 'boolean':
      return looseBoolean(value);
    case 'list':
      return name === 'blocked_outgoing_ports'
        ? listOf(value)?.map(Number)
        : (listOf(value) ?? value);
    default:
      return value;
  }
}

/** utils.js, fixBooleanLoose. */
export function looseBoolean(value: unknown): unknown {
  if (value === 'true' || value === '1' || value === 1) {
    return true;
  }
  return value === 'false' || value === '0' || value === 0 ? false : value;
}

/**
 * Nics that are added: upgraded to `ips` and `gateways`, with a MAC each.
 * @throws PayloadError
 */
export function addedNics(value: unknown): Nic[] {
  return nicsOf(value).map((nic) => {
    nic.mac =
      nic.mac === undefined
        ? nic.vrrp_vrid === undefined
          ? makeMac()
          : vrrpMac(nic.vrrp_vrid)
        : wholeMac(nic.mac);
    delete nic.index;
    if (nic.primary === false || nic.primary === '') {
      delete nic.primary;
    }
    upgrade(nic);
    nic.ips ??= [];
    return nic;
  });
}

/** What `update_nics` says of a nic, with what it leaves out of an address filled in from the nic itself. */
export function updatesOf(value: unknown, present: readonly Nic[]): Nic[] {
  return nicsOf(value).map((update) => {
    if (update.mac === undefined) {
      throw new PayloadError('NIC object needs a .mac property to update');
    }
    update.mac = wholeMac(update.mac);
    const nic = present.find(({ mac }) => mac === update.mac);
    if (nic === undefined) {
      throw new PayloadError('There is no existing NIC with that mac address');
    }
    const isAuto = isAutomatic(update.ip);
    if (
      update.ips === undefined &&
      (update.ip === undefined) !== (update.netmask === undefined) &&
      !isAuto
    ) {
      const { ip, netmask } = singleAddress(nic);
      update.ip ??= ip;
      update.netmask ??= netmask;
      if (update.netmask === undefined) {
        throw new PayloadError(
          'Updating IP address of NIC, but there is currently no specified netmask',
        );
      }
    }
    upgrade(update);
    return update;
  });
}

/** nic.js, updateNic: an old-style change needs one address that it changes. */
function singleAddress(nic: Nic): { ip: unknown; netmask: unknown } {
  const [only, ...more] = Array.isArray(nic.ips) ? nic.ips.map(String) : [];
  if (only !== undefined && more.length === 0 && isCidr(only) && isIPv4(addressOf(only))) {
    return { ip: addressOf(only), netmask: netmaskOf(prefixOf(only)) };
  }
  if (nic.ips === undefined && nic.ip !== undefined) {
    return { ip: nic.ip, netmask: nic.netmask };
  }
  throw new PayloadError('Need a single existing IPv4 address to update .ip or .netmask');
}

function upgrade(nic: Nic): void {
  const { ip, netmask } = nic;
  if (netmask !== undefined && !isNetmask(netmask)) {
    throw new PayloadError(`Specified netmask value is invalid: ${shown(netmask)}`);
  }
  if (ip !== undefined) {
    if (nic.ips === undefined) {
      if (isAutomatic(ip)) {
        nic.ips = [ip];
      } else if (netmask === undefined) {
        throw new PayloadError(`Missing .netmask option for NIC: ${JSON.stringify(nic)}`);
      } else {
        nic.ips = [`${shown(ip)}/${maskBits(shown(netmask))}`];
      }
    }
    delete nic.ip;
  }
  delete nic.netmask;
  if (nic.gateway !== undefined) {
    nic.gateways ??= [nic.gateway];
    delete nic.gateway;
  }
}

/** What create and update look at in nics that are added or changed. @throws PayloadError */
export function checkNics(nics: readonly Nic[], others: readonly Nic[], brand: BrandName): void {
  const macs = new Set(others.map(({ mac }) => mac));
  const taken = new Set(others.flatMap(fixedIps));
  for (const nic of nics) {
    if (macs.has(nic.mac)) {
      throw new PayloadError(`Cannot add multiple NICs with the same MAC: ${String(nic.mac)}`);
    }
    macs.add(nic.mac);
    if (nic.primary !== undefined && nic.primary !== true) {
      const words = `invalid value for NIC's primary flag: ${shown(nic.primary)}`;
      throw new PayloadError(`${words} (must be true)`);
    }
    for (const gateway of Array.isArray(nic.gateways) ? nic.gateways.map(String) : []) {
      if (!isIPv4(gateway)) {
        throw new PayloadError(`Static gateways must be IPv4 addresses: ${gateway}`);
      }
    }
    const ips = Array.isArray(nic.ips) ? nic.ips.map(String) : [];
    if (ips.length > MOST_IPS) {
      const words = `nic.*.ips contains ${ips.length} addresses`;
      throw new PayloadError(`${words}, but is limited to ${MOST_IPS}`);
    }
    for (const ip of ips.filter((each) => !isAutomatic(each))) {
      if (!isCidr(ip)) {
        throw new PayloadError(`Invalid IP for NIC: ${JSON.stringify(nic)}`);
      }
      if (taken.has(ip)) {
        throw new PayloadError(`Cannot add multiple NICs with the same IP: ${ip}`);
      }
      taken.add(ip);
    }
    if (nic.model === undefined && (brand === 'kvm' || brand === 'bhyve')) {
      throw new PayloadError(`missing .model option for NIC: ${JSON.stringify(nic)}`);
    }
    if (typeof nic.nic_tag !== 'string' || !/^[a-zA-Z0-9_/]+$/.test(nic.nic_tag)) {
      throw new PayloadError(`invalid or missing .nic_tag option for NIC: ${JSON.stringify(nic)}`);
    }
  }
  if (nics.filter(({ primary }) => primary === true).length > 1) {
    throw new PayloadError('payload specifies more than 1 primary NIC');
  }
}

/** Names the nics that have no interface: `net0` and so on, `eth0` in an lx zone. */
export function nameInterfaces(nics: readonly Nic[], brand: BrandName): void {
  const prefix = brand === 'lx' ? 'eth' : 'net';
  const used = new Set(nics.map((nic) => nic.interface));
  let index = 0;
  for (const nic of nics) {
    if (nic.interface === undefined) {
      while (used.has(`${prefix}${index}`)) {
        index++;
      }
      nic.interface = `${prefix}${index}`;
      used.add(nic.interface);
    }
  }
}

/** A nic as the VM object has it: older images read `ip`, `netmask` and `gateway`. */
export function vmNic(nic: Nic): JsonObject {
  const { interface: name, mac, ips, gateways, vlan_id, ...rest } = nic;
  const list = Array.isArray(ips) ? ips.map(String) : [];
  const first = list.find((ip) => ip === 'dhcp' || (isCidr(ip) && isIPv4(addressOf(ip))));
  const routers = Array.isArray(gateways) ? gateways.map(String) : [];
  const gateway = routers.find((each) => isIPv4(each));
  // A nic from before there were lists keeps what it has.
  const old = [...(ips === undefined ? [] : ['ip', 'netmask']), gateways && 'gateway'];
  return {
    interface: name,
    mac,
    ...(vlan_id === undefined || vlan_id === 0 ? {} : { vlan_id }),
    ...Object.fromEntries(Object.entries(rest).filter(([member]) => !old.includes(member))),
    ...(gateway === undefined ? {} : { gateway }),
    ...(routers.length > 0 ? { gateways: routers } : {}),
    ...(first?.includes('/') === true ? { netmask: netmaskOf(prefixOf(first)) } : {}),
    ...(first === undefined ? {} : { ip: addressOf(first) }),
    ...(list.length > 0 ? { ips: list } : {}),
  };
}

/** One primary nic: the one that was chosen now, or where the old one goes, the best that is left. */
export function choosePrimary(nics: readonly Nic[], chosen: unknown, wasPrimary: boolean): void {
  let primary = chosen;
  if (primary === undefined && wasPrimary && !nics.some((nic) => nic.primary === true)) {
    const isPublic = (nic: Nic): boolean => fixedIps(nic).some((ip) => !isPrivate(addressOf(ip)));
    primary = (nics.find(isPublic) ?? nics.find((nic) => fixedIps(nic).length > 0))?.mac;
  }
  for (const nic of primary === undefined ? [] : nics) {
    if (nic.mac === primary) {
      nic.primary = true;
    } else {
      delete nic.primary;
    }
  }
}

/** Applies a change to a nic of a VM. */
export function changedNic(nic: Nic, update: Nic): Nic {
  const members = Object.entries(update).filter(([name]) => !NOT_UPDATABLE.includes(name));
  return { ...nic, ...Object.fromEntries(members) };
}

/**
 * Refuses routes that lead nowhere: through a nic that is not there (any more), or has no fixed address.
 * @param routes all that the VM has afterwards; @param given those of the payload
 */
export function checkRoutes(routes: JsonObject, given: JsonObject, nics: readonly Nic[]): void {
  for (const [destination, gateway] of Object.entries(given)) {
    if (!isIPv4(destination) && !(isCidr(destination) && isIPv4(addressOf(destination)))) {
      throw new PayloadError(
        `Invalid route destination: "${destination}" (must be IP address or CIDR)`,
      );
    }
    if (!isIPv4(String(gateway)) && nicOfRoute(String(gateway), nics) === 'no nic') {
      throw new PayloadError(
        `Invalid route gateway: "${String(gateway)}" (must be IP address, MAC address, or nic)`,
      );
    }
  }
  for (const gateway of Object.values(routes).map(String)) {
    if (!isIPv4(gateway) && nicOfRoute(gateway, nics) !== 'usable') {
      throw new PayloadError(`Route gateway: "${gateway}" refers to non-existent or DHCP nic`);
    }
  }
}

function nicOfRoute(gateway: string, nics: readonly Nic[]): 'usable' | 'unusable' | 'no nic' {
  const mac = /^macs\[([0-9a-fA-F:-]+)\]$/.exec(gateway)?.[1];
  const index = /^nics\[(\d+)\]$/.exec(gateway)?.[1];
  if (mac === undefined && index === undefined) {
    return 'no nic';
  }
  const nic =
    mac === undefined ? nics[Number(index)] : nics.find((each) => each.mac === wholeMac(mac));
  return nic !== undefined && fixedIps(nic).length > 0 ? 'usable' : 'unusable';
}

/** Addresses that do not come from DHCP or router advertisements. */
function fixedIps(nic: Nic): string[] {
  const ips = Array.isArray(nic.ips)
    ? nic.ips.map(String)
    : [ownString(nic, 'ip') ?? 'dhcp'].filter(() => own(nic, 'ip') !== undefined);
  return ips.filter((ip) => !isAutomatic(ip));
}

function isAutomatic(ip: unknown): boolean {
  return ip === 'dhcp' || ip === 'addrconf';
}

function isCidr(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/');
  const bits = Number.parseInt(prefix ?? '', 10);
  if (rest.length > 0 || isIP(address) === 0) {
    return false;
  }
  return isIPv6(address) ? bits >= 0 && bits <= 128 : bits >= 8 && bits <= 32;
}

function addressOf(cidr: string): string {
  return cidr.split('/')[0] ?? '';
}

function prefixOf(cidr: string): number {
  return Number(cidr.split('/')[1]);
}

function numberOf(address: string): number {
  return address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

function netmaskOf(bits: number): string {
  const mask = 2 ** 32 - 2 ** (32 - bits);
  return [24, 16, 8, 0].map((shift) => Math.floor(mask / 2 ** shift) % 256).join('.');
}

function maskBits(netmask: string): number {
  return 32 - Math.log2(2 ** 32 - numberOf(netmask));
}

function isNetmask(netmask: unknown): boolean {
  return typeof netmask === 'string' && isIPv4(netmask) && Number.isInteger(maskBits(netmask));
}

/** utils.js, isPrivateIP. */
function isPrivate(address: string): boolean {
  return /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)/.test(address);
}

/** utils.js, generateMAC: a locally administered one. */
function makeMac(): string {
  const bytes = Array.from({ length: 5 }, () => randomInt(1, 256).toString(16).padStart(2, '0'));
  return [`${randomInt(1, 16).toString(16)}2`, ...bytes].join(':');
}

function vrrpMac(vrid: unknown): string {
  return `00:00:5e:00:01:${Number(vrid).toString(16).padStart(2, '0')}`;
}

/** Two lower-case digits a byte. (VM.js, fixMac) */
export function wholeMac(mac: unknown): string {
  return String(mac)
    .split(/[:-]/)
    .map((byte) => byte.toLowerCase().padStart(2, '0'))
    .join(':');
}
