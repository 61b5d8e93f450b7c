/* A node with one zone and one guest, for the tests of simcn's vmadm. */
import { readFileSync } from 'node:fs';

import { needs } from './pending';
import { type Result, SimNode, whyNoNode } from './simcn';

export const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
export const GUEST = 'aaac8650-4b58-6633-9054-a2c22e7beb36';
/** Of no VM. */
export const NONE = '00000000-0000-4000-8000-000000000000';
export const NIC = {
  mac: '90:b8:d0:f5:e4:f5',
  interface: 'net0',
  nic_tag: 'external',
  ips: ['10.2.1.20/24'],
  netmask: '255.255.255.0',
  ip: '10.2.1.20',
};
export const IMAGE = 'c193a558-1d63-11e9-97cf-97bb3ee5c14f';

export type Vm = Readonly<Record<string, unknown>>;

export function parse(text: string): Vm {
  return JSON.parse(text) as Vm;
}

interface VmadmNode {
  /** Runs `vmadm update` of the zone. */
  readonly update: (payload: unknown, ...args: string[]) => Promise<Result>;
  /** The zone's metadata.json. */
  readonly metadata: () => Vm;
}

/** The node lives as long as the suite that calls this. @param use gets it before the first test */
export function vmadmNode(use: (node: SimNode) => void): VmadmNode {
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    const vms = [
      {
        uuid: ZONE,
        brand: 'joyent',
        zone_state: 'running',
        alias: 'web0',
        max_physical_memory: 512,
        nics: [NIC],
        customer_metadata: { colour: 'blue', shape: 'round' },
        internal_metadata: { root_pw: 'secret' },
      },
      { uuid: GUEST, brand: 'bhyve', zone_state: 'running', alias: 'vm0', ram: 1024 },
    ];
    node = await SimNode.start({ vms, canaries: false });
    use(node);
  });
  after(async () => {
    await (node as SimNode | undefined)?.stop();
  });

  return {
    update: (payload, ...args) => node.vmadm(['update', ZONE, ...args], JSON.stringify(payload)),
    metadata: () => parse(readFileSync(node.path(`/zones/${ZONE}/config/metadata.json`), 'utf8')),
  };
}
