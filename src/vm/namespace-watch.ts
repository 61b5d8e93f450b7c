/*
 * Tells when a VM has lost a namespace: its internal metadata has keys of one that the VM does not list,
 * as a migration can leave it. Such keys then fall to the guest's own map, for reading and writing, and
 * nothing else shows it. One warning a VM until it changes; names only, never a value.
 *
 * Used by the store, for each VM object that vminfod tells. What the guest is answered is decided in
 * metadata/.
 */
import { printableKey, type Logger } from '../log';
import { lostNamespaces, namespacesOf } from '../metadata/keys';
import type { JsonObject, MetadataMap } from '../metadata/vm-data';

/** Looks at each VM object that it is shown; remembers whom it warned of. */
export class NamespaceWatch {
  private readonly log: Pick<Logger, 'warn'>;
  /** What was told last of the VMs that miss some. */
  private readonly told = new Map<string, string>();

  constructor(log: Pick<Logger, 'warn'>) {
    this.log = log;
  }

  /** @param internal the VM's internal metadata */
  look(zonename: string, vm: JsonObject, internal: MetadataMap): void {
    const namespaces = lostNamespaces(internal, namespacesOf(vm));
    if (namespaces.length === 0) {
      this.told.delete(zonename);
      return;
    }
    const names = namespaces.map(printableKey).join(', ');
    if (this.told.get(zonename) !== names) {
      this.told.set(zonename, names);
      this.log.warn(
        { zonename, namespaces: names },
        'internal metadata has keys of namespaces that the VM does not list',
      );
    }
  }

  forget(zonename: string): void {
    this.told.delete(zonename);
  }
}
