/*
 * The VM that the protocol's worked examples are about (golden.ts), as the specification gives it.
 */

/** Two network interfaces, as vminfod tells them: one with a fixed address, one with DHCP. */
export const NICS = [
  {
    interface: 'net0',
    mac: '90:b8:d0:f5:e4:f5',
    nic_tag: 'external',
    gateway: '10.2.1.1',
    gateways: ['10.2.1.1'],
    netmask: '255.255.255.0',
    ip: '10.2.1.20',
    ips: ['10.2.1.20/24'],
    primary: true,
  },
  {
    interface: 'net1',
    mac: '90:b8:d0:0a:ff:cd',
    nic_tag: 'internal',
    ip: 'dhcp',
    ips: ['dhcp'],
  },
] as const;

/** A VM as its parts are kept: the object that vminfod tells, and the files below `config/`. */
export interface VmFixture {
  readonly vm: Readonly<Record<string, unknown>>;
  readonly customer: Readonly<Record<string, unknown>>;
  readonly internal: Readonly<Record<string, unknown>>;
  readonly tags: Readonly<Record<string, unknown>>;
  readonly routes: Readonly<Record<string, unknown>>;
}

export const FIXTURE: VmFixture = {
  vm: {
    uuid: '5f3c8d8a-6f2b-4d0e-9a57-0c1c2b7e4a11',
    brand: 'joyent',
    quota: 10,
    tmpfs: 256,
    maintain_resolvers: true,
    firewall_enabled: false,
    resolvers: ['8.8.8.8', '8.8.4.4'],
    nics: [
      ...NICS,
      {
        interface: 'net2',
        mac: '90:b8:d0:0b:00:01',
        nic_tag: 'internal',
        netmask: '255.255.255.0',
        ip: '192.168.7.4',
        ips: ['192.168.7.4/24'],
      },
    ],
    internal_metadata_namespaces: ['docker'],
  },
  customer: {
    motd: '.hid\n..two\nplain',
    'user-script': '#!/bin/sh\necho hi\n',
    empty: '',
    café: 'naïve ☃',
    root_pw: 'shadowed',
    'docker:cmd': 'customer',
    'two words': 'ok',
  },
  internal: {
    root_pw: 's3cret',
    'operator-script': '#!/bin/sh\n:\n',
    'sdc:volumes': '[]',
    'docker:cmd': '["sh"]',
    'docker:restartcount': 3,
    hidden: 'nope',
  },
  tags: {
    role: 'db',
    'a.b': 7,
    on: true,
  },
  routes: {
    '10.2.2.0/24': '10.2.1.1',
    '10.3.0.1': 'nics[2]',
    '10.4.0.0/16': 'macs[90:B8:D0:F5:E4:F5]',
    '10.5.0.0/16': 'nics[1]',
  },
};
