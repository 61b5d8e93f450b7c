/*
 * What a key's answer must be, once more from the description of the key rules, over plain maps: `+text`
 * for a value, `-` for NOTFOUND, `!text` for FAILURE, `w...` for a write that must reach the store.
 */
import type { JsonObject } from '../../../src/metadata/vm-data';

export interface ModelVm {
  readonly vm: JsonObject;
  readonly customer: ReadonlyMap<string, unknown>;
  readonly internal: ReadonlyMap<string, unknown>;
  readonly tags: ReadonlyMap<string, unknown>;
  readonly routes: ReadonlyMap<string, unknown>;
}

const NEVER_READABLE =
  /^(?:internal_metadata(?:\..*)?|vnc_password|spice_password|spice_opts|qemu_opts|(?:qemu|bhyve)_extra_opts)$/s;

/** What a GET must be answered: `+` with the value, `-` for NOTFOUND, `!` with the words of a failure. */
export function get(data: ModelVm, key: string): string {
  if (key.startsWith('sdc:')) {
    return sdc(data, key.slice(4));
  }
  return text((isInternal(data.vm, key) ? data.internal : data.customer).get(key));
}

/** What a KEYS must be answered. */
export function keys(data: ModelVm): string {
  const listable = (key: string): boolean => {
    return key !== '' && !key.startsWith('sdc:') && !/[\0-\x1f\x7f]/.test(key);
  };
  const customer = [...data.customer.keys()].filter((key) => !isInternal(data.vm, key));
  const internal = [...data.internal.keys()].filter((key) => isInternal(data.vm, key));
  return `+${[...customer, ...internal].filter(listable).join('\n')}`;
}

/** What a PUT or DELETE must come to: `w` with the change, or `!` with the words of a refusal. */
export function write(data: ModelVm, kind: 'put' | 'delete', key: string, value: string): string {
  const { vm, internal } = data;
  const prefix = /^([^:]*):/s.exec(key)?.[1];
  if (prefix === 'sdc' || (prefix !== undefined && namespaces(vm).includes(prefix))) {
    return `!Cannot update the "${prefix}" Namespace.`;
  }
  const docker = [...internal.keys()].some(
    (one) => one.startsWith('docker:') && !one.endsWith('_pw'),
  );
  if (prefix === 'docker' && (docker || member(vm, 'docker') === true)) {
    return '!Cannot update the "docker" Namespace.';
  }
  if (kind === 'put' && key === 'operator-script') {
    return '!Cannot update the "operator-script" Key.';
  }
  if (kind === 'put' && value === '') {
    return '!Empty values are not stored.';
  }
  const map = key.endsWith('_pw') || key === 'operator-script' ? 'internal' : 'customer';
  return `w ${kind} ${map} ${key}\0${value}`;
}

function sdc(data: ModelVm, name: string): string {
  const { vm, internal, tags } = data;
  if (NEVER_READABLE.test(name)) {
    return '-';
  }
  if (['nics', 'resolvers', 'tmpfs'].includes(name)) {
    const value = member(vm, name);
    return value === undefined || value === null ? '-' : `+${JSON.stringify(value)}`;
  }
  if (name === 'operator-script' || name === 'volumes') {
    return text(internal.get(name === 'volumes' ? 'sdc:volumes' : name));
  }
  if (name.startsWith('tags.')) {
    return text(tags.get(name.slice('tags.'.length)));
  }
  if (['customer_metadata', 'routes', 'tags'].includes(name)) {
    return '!';
  }
  const [first = '', second = '', third = '', ...more] = name.split('.');
  const dots = name.split('.').length - 1;
  if (dots === 2 && ['disks', 'nics', 'pci_devices'].includes(first) && more.length === 0) {
    return text(member(element(member(vm, first), second), third));
  }
  if (dots === 1 && ['internal_metadata_namespaces', 'resolvers'].includes(first)) {
    return text(element(member(vm, first), second));
  }
  if (dots === 1 && first === 'customer_metadata') {
    return text(data.customer.get(second));
  }
  if (dots === 1 && first === 'routes') {
    return text(data.routes.get(second));
  }
  return text(member(vm, name));
}

function namespaces(vm: JsonObject): unknown[] {
  const names = member(vm, 'internal_metadata_namespaces');
  return Array.isArray(names) ? names : [];
}

function isInternal(vm: JsonObject, key: string): boolean {
  const prefix = /^([^:]*):/s.exec(key)?.[1];
  return key.endsWith('_pw') || (prefix !== undefined && namespaces(vm).includes(prefix));
}

function text(value: unknown): string {
  switch (typeof value) {
    case 'string':
    case 'number':
    case 'boolean':
      return `+${String(value)}`;
    default:
      return value === undefined || value === null ? '-' : '!';
  }
}

function member(object: unknown, name: string): unknown {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) {
    return undefined;
  }
  return Object.getOwnPropertyDescriptor(object, name)?.value;
}

function element(array: unknown, index: string): unknown {
  const at = Array.isArray(array) ? array.findIndex((_, i) => String(i) === index) : -1;
  return Array.isArray(array) && at >= 0 ? array[at] : undefined;
}
