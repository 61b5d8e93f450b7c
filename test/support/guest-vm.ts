/*
 * A VM with everything that cloud-init asks for, and what cloud-init must make of it: written down by
 * hand, from cloud-init's names and formats.
 */
import assert from 'node:assert';

import type { Attempt, CloudInitData } from './guest-cloud-init';
import { NICS } from './vm-fixture';

const USER_SCRIPT = '#!/bin/sh\necho "na\u00efve \u2603"\n';
const USER_DATA = '#cloud-config\npackages:\n  - htop\n';
const LEGACY_USER_DATA = 'anything\n\n.at all\n';
const KEYS =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE one@example.com\nssh-rsa AAAAB3 two@example.com';
const OPERATOR_SCRIPT = '#!/bin/sh\n:\n';

export function guestVm(uuid: string, brand: string, more: object = {}): object {
  return {
    uuid,
    brand,
    hostname: 'web01',
    dns_domain: 'example.com',
    datacenter_name: 'lab-1',
    resolvers: ['8.8.8.8', '8.8.4.4'],
    nics: NICS,
    routes: { '10.2.2.0/24': '10.2.1.1' },
    customer_metadata: {
      hostname: 'web01.customers',
      root_authorized_keys: `${KEYS}\n`,
      'user-script': USER_SCRIPT,
      'user-data': LEGACY_USER_DATA,
      'cloud-init:user-data': USER_DATA,
      iptables_disable: 'true',
      motd_sys_info: 'false',
    },
    internal_metadata: { 'operator-script': OPERATOR_SCRIPT },
    ...more,
  };
}

/** Keys that a guest's `KEYS` shows of it. */
export const GUEST_VM_KEYS = [
  'cloud-init:user-data',
  'hostname',
  'iptables_disable',
  'motd_sys_info',
  'root_authorized_keys',
  'user-data',
  'user-script',
];

export const GUEST_VM_USER_SCRIPT = USER_SCRIPT;

/**
 * The heart of these tests: an attempt may fail aloud, and then the next one must have everything; none
 * may come back with something missing. @returns how many failed aloud
 */
export function assertComplete(attempts: readonly Attempt[], uuid: string): number {
  const reported = JSON.stringify(attempts);
  const last = attempts.at(-1);
  assert(last !== undefined && 'data' in last, `no attempt got data: ${reported}`);
  assertWhole(last.data, uuid);
  for (const attempt of attempts.slice(0, -1)) {
    assert('raised' in attempt, `more attempts than were needed: ${reported}`);
  }
  return attempts.length - 1;
}

function assertWhole(data: CloudInitData, uuid: string): void {
  const { 'vendor-data': builtin, ...metadata } = data.metadata;
  assert.deepStrictEqual(metadata, {
    'instance-id': uuid,
    'local-hostname': 'web01.customers',
    'public-keys': KEYS,
    'user-script': USER_SCRIPT,
    'legacy-user-data': LEGACY_USER_DATA,
    'user-data': USER_DATA,
    iptables_disable: 'true',
    motd_sys_info: 'false',
    availability_zone: 'lab-1',
    'operator-script': OPERATOR_SCRIPT,
    hostname: 'web01',
    dns_domain: 'example.com',
    'network-data': (guestVm(uuid, '') as { nics: unknown }).nics,
    dns_servers: ['8.8.8.8', '8.8.4.4'],
    routes: [{ linklocal: false, dst: '10.2.2.0/24', gateway: '10.2.1.1' }],
  });
  // The platform has no vendor data: cloud-init takes its own.
  assert.match(String(builtin), /^#cloud-boothook\n/);
  assert.strictEqual(data.vendordata, builtin);
  assert.strictEqual(data.userdata, USER_DATA);
  assert.deepStrictEqual(data.network, {
    version: 1,
    config: [
      {
        type: 'physical',
        name: 'net0',
        mac_address: '90:b8:d0:f5:e4:f5',
        subnets: [
          {
            type: 'static',
            address: '10.2.1.20/24',
            gateway: '10.2.1.1',
            routes: [{ gateway: '10.2.1.1', network: '10.2.2.0/24' }],
          },
        ],
      },
      {
        type: 'physical',
        name: 'net1',
        mac_address: '90:b8:d0:0a:ff:cd',
        subnets: [{ type: 'dhcp4' }],
      },
      { type: 'nameserver', address: ['8.8.8.8', '8.8.4.4'], search: ['example.com'] },
    ],
  });
}
