/*
 * What target `answer` works on: VM objects and their maps, with nulls, wrong types, names of the object
 * prototype and dots in all places, and requests; all of it decided by the bytes of an input. Values
 * that no guest may see are planted wherever they can be.
 */
import type { DataRequest, Wire } from '../../../src/protocol/request';
import type { ModelVm } from '../model/keys';
import type { Choices } from './choices';

/** Planted in all places that no guest may see. */
export const SECRET = 'S3CR3T-canary';
/** Members of VM objects. */
const MEMBERS: readonly [string, ...string[]] = [
  'uuid',
  'nics',
  'resolvers',
  'tmpfs',
  'internal_metadata_namespaces',
  'disks',
  'pci_devices',
  'docker',
  'device',
  'quota',
  'a.b',
  'tags',
  'routes',
  'customer_metadata',
  'constructor',
  '__proto__',
  'length',
  '',
];
/** Keys that requests ask for and maps hold. */
export const KEYS: readonly [string, ...string[]] = [
  'motd',
  'root_pw',
  'docker:cmd',
  'docker:x_pw',
  'x:y',
  'x:y_pw',
  'sdc:uuid',
  'operator-script',
  'sdc:volumes',
  '__proto__',
  'constructor',
  'toString',
  'a.b',
  'two words',
  'a,b',
  'a\nb',
  '0',
  '10',
  'sdc',
  'x',
  ':',
  '',
];
/** What requests ask for behind `sdc:`. */
export const NAMES: readonly [string, ...string[]] = [
  'nics',
  'resolvers',
  'tmpfs',
  'operator-script',
  'volumes',
  'tags.a.b',
  'tags',
  'tags.__proto__',
  'internal_metadata',
  'internal_metadata.root_pw',
  'internal_metadata.hidden',
  'vnc_password',
  'spice_opts',
  'qemu_extra_opts',
  'customer_metadata.motd',
  'customer_metadata.root_pw',
  'customer_metadata',
  'routes.x',
  'routes.constructor',
  'nics.0.ip',
  'nics.0.constructor',
  'nics.00.ip',
  'nics.1.ip.x',
  'nics.0',
  'disks.0.path',
  'disks.-1.path',
  'resolvers.0',
  'resolvers.',
  'resolvers.0x1',
  'resolvers.length',
  'internal_metadata_namespaces.0',
  'uuid',
  'a.b',
  'constructor',
  '__proto__',
  '',
  '.',
  '..',
];
const NAMESPACES: readonly [string, ...string[]] = ['docker', 'x', '', 'sdc', 'a.b', 'root_pw'];
const WIRES: readonly [Wire, Wire] = [{ version: 1 }, { version: 2, id: '1a2b3c4d' }];
const MOST_MEMBERS = 12;

/** A request of any kind, for a key that may be there. */
export function buildRequest(choices: Choices): DataRequest {
  const wire = choices.pick(WIRES);
  const kind = choices.below(8);
  const key = buildKey(choices);
  switch (kind) {
    case 0:
      return { kind: 'keys', wire };
    case 1:
      return { kind: 'put', wire, key, value: choices.text() };
    case 2:
      return { kind: 'delete', wire, key };
    default:
      return { kind: 'get', wire, key };
  }
}

function buildKey(choices: Choices): string {
  switch (choices.below(4)) {
    case 0:
      return choices.pick(KEYS);
    case 1:
      return choices.text();
    default:
      return `sdc:${choices.pick(NAMES)}`;
  }
}

/** A VM and its maps, with what its guest may never read. */
export function buildVm(choices: Choices): ModelVm {
  const members: [string, unknown][] = [];
  const count = choices.below(MOST_MEMBERS);
  for (let i = 0; i < count; i++) {
    const name = choices.below(8) === 7 ? choices.text() : choices.pick(MEMBERS);
    members.push([name, memberValue(choices, name)]);
  }
  const vm = Object.fromEntries([
    ...members.filter(([name]) => !['routes', 'datasets', 'delegate_dataset'].includes(name)),
    ['vnc_password', SECRET],
    ['spice_opts', SECRET],
    ['qemu_extra_opts', SECRET],
    ['internal_metadata', { hidden: SECRET, root_pw: SECRET }],
  ]);
  const internal = buildMap(choices);
  internal.set('hidden', SECRET);
  return {
    vm,
    customer: buildMap(choices),
    internal,
    tags: buildMap(choices),
    routes: buildMap(choices),
  };
}

function memberValue(choices: Choices, name: string): unknown {
  if (choices.below(3) === 0) {
    return oddValue(choices);
  }
  switch (name) {
    case 'internal_metadata_namespaces':
      return [choices.pick(NAMESPACES), choices.pick(NAMESPACES), 7, null];
    case 'nics':
    case 'disks':
    case 'pci_devices':
      return [{ ip: choices.text(), path: null, mac: 7 }, oddValue(choices), { ips: [] }];
    case 'resolvers':
      return ['8.8.8.8', oddValue(choices)];
    case 'docker':
      return true;
    default:
      return choices.text();
  }
}

function buildMap(choices: Choices): Map<string, unknown> {
  const map = new Map<string, unknown>();
  const count = choices.below(5);
  for (let i = 0; i < count; i++) {
    const key = choices.below(4) === 3 ? choices.text() : choices.pick(KEYS);
    map.set(key, choices.below(3) === 0 ? oddValue(choices) : choices.text());
  }
  return map;
}

function oddValue(choices: Choices): unknown {
  switch (choices.below(12)) {
    case 0:
      return null;
    case 1:
      return true;
    case 2:
      return false;
    case 3:
      return 0;
    case 4:
      return -1.5e300;
    case 5:
      return [];
    case 6:
      return {};
    case 7:
      return [null];
    case 8:
      return [7];
    case 9:
      return { length: 1, '0': 'x' };
    case 10:
      return '';
    default:
      return choices.text();
  }
}
