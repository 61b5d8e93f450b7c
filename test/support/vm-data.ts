/*
 * A VM's data in memory, for tests of what stands above the store: the five parts of a fixture, with
 * the changes that were asked for kept in a list.
 */
import type { Change, ChangeResult, MetadataMaps, VmData } from '../../src/metadata/vm-data';
import type { VmFixture } from './vm-fixture';

export const EMPTY_VM: VmFixture = { vm: {}, customer: {}, internal: {}, tags: {}, routes: {} };

export interface MemoryVm extends VmData {
  readonly changes: readonly Change[];
}

/** @param result what the store says to each change; @param known whether the VM object is there yet */
export function memoryVm(
  fixture: VmFixture,
  result: ChangeResult = { kind: 'stored' },
  known = true,
): MemoryVm {
  const maps: MetadataMaps = {
    customer: new Map(Object.entries(fixture.customer)),
    internal: new Map(Object.entries(fixture.internal)),
  };
  const tags = new Map(Object.entries(fixture.tags));
  const routes = new Map(Object.entries(fixture.routes));
  const changes: Change[] = [];
  return {
    zonename: 'zone',
    changes,
    metadata: () => maps,
    tags: () => tags,
    routes: () => routes,
    vm: () => (known ? fixture.vm : undefined),
    loaded: () => Promise.resolve(known ? fixture.vm : undefined),
    change: (change) => {
      changes.push(change);
      return Promise.resolve(result);
    },
    load() {
      return this;
    },
    fileBytes: () => 0,
    use: () => ({ bytes: 1000, bytesMax: 4000, keys: 3, keysMax: 10 }),
  };
}
