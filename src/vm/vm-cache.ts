/*
 * All VM objects of the node, as vminfod told them last.
 *
 * The feed (vminfod.ts) writes here, the store reads. An object is kept as JSON text with the contents of
 * its two metadata maps taken out: those are read from the config files, they can be megabytes, and they
 * are secrets. The host's secrets in it, which no guest is told, are left out too; of the text that they came
 * in nothing is kept on purpose, but a core of the process may still hold what was not overwritten. Parsed objects are held for the few zones that ask. A whole new picture is compared with
 * the old one, so that nobody need know whether a change came as an event or during an outage.
 */
import { EventEmitter } from 'node:events';
import { DENIED } from '../metadata/sdc';
import { CooperativeYield } from '../lib/scheduler';
import { Lru } from '../lib/lru';
import {
  factsOf,
  isJsonObject,
  own,
  parseJsonObject,
  type JsonObject,
  type VmFacts,
} from '../metadata/vm-data';

/** Text of the VM objects that are kept parsed, bytes. Parsed they take a few times that. */
const PARSED_BYTES = 2 * 1024 * 1024;

export interface VmRecord {
  readonly facts: VmFacts;
  /** A string, since V8 keeps it in a byte a character and beside nothing: a Buffer weighs 300 more. */
  readonly json: string;
}

/** Members that JSON leaves out. */
const HIDDEN: JsonObject = Object.fromEntries([...DENIED].map((name) => [name, undefined]));

/** `previous` is absent for a new VM, `next` for one that is gone. */
export interface VmChange {
  readonly zonename: string;
  readonly previous: VmFacts | undefined;
  readonly next: VmFacts | undefined;
}

/** What listeners of a table's `changed` get. */
interface TableEvents {
  changed: [VmChange];
}

/** A VM object as it is kept; undefined for one that names no zone. */
export function recordOf(vm: JsonObject): VmRecord | undefined {
  const facts = factsOf(vm);
  if (facts === undefined) {
    return undefined;
  }
  const json = JSON.stringify({
    ...vm,
    ...HIDDEN,
    ...emptied(vm, 'customer_metadata'),
    ...emptied(vm, 'internal_metadata'),
  });
  return { facts, json };
}

/** The member stays, so that asking for the map as such is answered as ever; what it holds does not. */
function emptied(vm: JsonObject, name: string): JsonObject {
  return isJsonObject(own(vm, name)) ? { [name]: {} } : {};
}

/** Emits `changed` for each VM that is new, different or gone, once the table says so. */
export class VmCache extends EventEmitter<TableEvents> {
  private readonly records = new Map<string, VmRecord>();
  private readonly parsed = new Lru<JsonObject>(PARSED_BYTES);

  constructor() {
    super();
    // One listener a consumer, not one a zone; a few consumers are normal.
    this.setMaxListeners(32);
  }

  get size(): number {
    return this.records.size;
  }

  zonenames(): string[] {
    return [...this.records.keys()];
  }

  /** The zone of the VM with this uuid, which nearly always is the zone's name too. */
  zoneOf(uuid: string): string | undefined {
    const records = [...this.records.values()];
    return records.find(({ facts }) => facts.uuid === uuid)?.facts.zonename;
  }

  facts(zonename: string): VmFacts | undefined {
    return this.records.get(zonename)?.facts;
  }

  /** The object without its metadata, undefined while it is not known. */
  vm(zonename: string): JsonObject | undefined {
    const record = this.records.get(zonename);
    if (record === undefined) {
      return undefined;
    }
    const known = this.parsed.get(zonename);
    if (known !== undefined) {
      return known;
    }
    const vm = parseJsonObject(record.json);
    if (vm !== undefined) {
      this.parsed.set(zonename, vm, record.json.length);
    }
    return vm;
  }

  /** A VM as it is now. */
  put(record: VmRecord): void {
    const { zonename } = record.facts;
    const previous = this.records.get(zonename);
    if (previous?.json === record.json) {
      return;
    }
    this.records.set(zonename, record);
    this.parsed.delete(zonename);
    this.emit('changed', { zonename, previous: previous?.facts, next: record.facts });
  }

  remove(zonename: string): void {
    const previous = this.records.get(zonename);
    if (previous !== undefined) {
      this.records.delete(zonename);
      this.parsed.delete(zonename);
      this.emit('changed', { zonename, previous: previous.facts, next: undefined });
    }
  }

  /**
   * All VMs as they are now: what is not among them is gone. In slices; `live` is asked after each
   * VM, and when it says no the rest is left as it is, for a newer picture to tell.
   */
  async replace(picture: ReadonlyMap<string, VmRecord>, live: () => boolean): Promise<void> {
    const gone = this.zonenames().filter((zonename) => !picture.has(zonename));
    const slice = new CooperativeYield();
    for (const zonename of [...gone, ...picture.keys()]) {
      const record = picture.get(zonename);
      if (record === undefined) {
        this.remove(zonename);
      } else {
        this.put(record);
      }
      await slice.pause();
      if (!live()) {
        return;
      }
    }
  }
}
