/* VM objects in the shape vminfod tells them, as many as a test wants. */
import type { JsonObject } from '../../src/metadata/vm-data';

/** A uuid-like zone name with a number in it. */
export function zonenameOf(index: number): string {
  return `aaac8650-4b58-6633-9054-${index.toString(16).padStart(12, '0')}`;
}

export function vmObject(zonename: string, more: JsonObject = {}): JsonObject {
  return {
    uuid: zonename,
    zonename,
    brand: 'joyent-minimal',
    zonepath: `/zones/${zonename}`,
    zone_state: 'running',
    state: 'running',
    nics: [{ interface: 'net0', mac: '90:b8:d0:f5:e4:f5', ip: '10.2.1.20', ips: ['10.2.1.20/24'] }],
    resolvers: ['8.8.8.8'],
    customer_metadata: {},
    internal_metadata: {},
    tags: {},
    routes: {},
    device: null,
    ...more,
  };
}

/** @param padding extra bytes in each, quotes, backslashes and non-ASCII among them */
export function vmObjects(count: number, padding = 0): JsonObject[] {
  const pad = 'say "caf\u00e9"\\n \u{1f980} '.repeat(Math.ceil(padding / 24)).slice(0, padding);
  return Array.from({ length: count }, (_, index) => {
    return vmObject(zonenameOf(index), padding === 0 ? {} : { notes: pad });
  });
}
