/*
 * All VM objects of the node as vminfod sent them last, and the requests that wait for one.
 *
 * event-stream.ts writes here, the store reads. An object is kept as JSON text, without the contents of its two metadata
 * maps, which are read from the config files and can be megabytes, and without the host's secrets. What comes is compared
 * with what there was, so that it does not matter whether a change came as an event or during an outage.
 */
import { EventEmitter } from 'node:events';
import { DENIED } from '../metadata/sdc';
import { Lru } from '../lib/lru';
import {
  factsOf,
  isJsonObject,
  own,
  parseJsonObject,
  type JsonObject,
  type MetadataMaps,
  type VmFacts,
} from '../metadata/vm-data';

/** Text of the VM objects that are kept parsed, bytes. Parsed they take a few times that. */
const PARSED_BYTES = 2 * 1024 * 1024;
/** Longest wait for a VM that is not known yet, at the start or while vminfod is down. */
const WAIT_MS = 5000;

/** `previous` is absent for a new VM, `next` for one that is gone. */
export interface VmChange {
  readonly zonename: string;
  readonly previous: VmFacts | undefined;
  readonly next: VmFacts | undefined;
}

/** A VM as vminfod sends it, and its metadata. */
export type SeenVm = Readonly<{ vm: JsonObject; metadata: MetadataMaps }>;
/** Sees each VM that comes, changed or not, and its metadata, once the cache has it. */
export type VmObserver = (zonename: string, vm: JsonObject, metadata: MetadataMaps) => void;

interface VmRecord {
  readonly facts: VmFacts;
  /** Not a Buffer, which would weigh 300 bytes more. */
  readonly json: string;
  readonly version: number;
}

interface Waiter {
  readonly zonename: string;
  readonly end: (vm?: JsonObject) => void;
}

/** A VM object as it is kept; undefined for one that names no zone. */
export function recordOf(vm: JsonObject): Omit<VmRecord, 'version'> | undefined {
  const facts = factsOf(vm);
  if (facts === undefined) {
    return undefined;
  }
  const replaced: Record<string, unknown> = {};
  // Only of what is there: to add a member to an object costs V8 as much as to write all others.
  for (const name of DENIED) {
    if (Object.hasOwn(vm, name)) {
      // JSON leaves it out.
      replaced[name] = undefined;
    }
  }
  for (const name of ['customer_metadata', 'internal_metadata']) {
    if (isJsonObject(own(vm, name))) {
      // They stay as members, so that a GET of one as such is answered.
      replaced[name] = {};
    }
  }
  return { facts, json: JSON.stringify({ ...vm, ...replaced }) };
}

/** Emits `changed` for each VM that is new, different or gone, after the change. */
export class VmCache extends EventEmitter<{ changed: [VmChange] }> {
  private readonly records = new Map<string, VmRecord>();
  private lastVersion = 0;
  private readonly parsed = new Lru<JsonObject>(PARSED_BYTES);
  private readonly waiters = new Set<Waiter>();

  constructor(private readonly observe: VmObserver = () => undefined) {
    super();
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

  /** A number that no other object of a VM has; 0 while it is not known. */
  version(zonename: string): number {
    return this.records.get(zonename)?.version ?? 0;
  }

  /** The object without its metadata; undefined while it is not known. */
  vm(zonename: string): JsonObject | undefined {
    const record = this.records.get(zonename);
    const known = this.parsed.get(zonename);
    if (record === undefined || known !== undefined) {
      return known;
    }
    const vm = parseJsonObject(record.json);
    if (vm !== undefined) {
      this.parsed.set(zonename, vm, record.json.length);
    }
    return vm;
  }

  /** A VM as it is now. @returns its zone; undefined where it names none */
  put({ vm, metadata }: SeenVm): string | undefined {
    const record = recordOf(vm);
    if (record === undefined) {
      return undefined;
    }
    const { zonename } = record.facts;
    const previous = this.records.get(zonename);
    if (previous?.json !== record.json) {
      this.records.set(zonename, { ...record, version: ++this.lastVersion });
      this.parsed.delete(zonename);
      this.emit('changed', { zonename, previous: previous?.facts, next: record.facts });
      for (const waiter of this.waiters) {
        if (waiter.zonename === zonename) {
          waiter.end(this.vm(zonename));
        }
      }
    }
    this.observe(zonename, vm, metadata);
    return zonename;
  }

  remove(zonename: string): void {
    const previous = this.records.get(zonename);
    if (previous !== undefined) {
      this.records.delete(zonename);
      this.parsed.delete(zonename);
      this.emit('changed', { zonename, previous: previous.facts, next: undefined });
    }
  }

  /** Requests that wait for a VM object. */
  get waiting(): number {
    return this.waiters.size;
  }

  /** Resolves with the VM's object when it comes; with undefined after 5 s, or when all waits are ended. */
  wait(zonename: string): Promise<JsonObject | undefined> {
    return new Promise((resolve) => {
      const end = (vm?: JsonObject): void => {
        clearTimeout(timer);
        this.waiters.delete(waiter);
        resolve(vm);
      };
      const waiter: Waiter = { zonename, end };
      const timer = setTimeout(end, WAIT_MS);
      this.waiters.add(waiter);
    });
  }

  endAllWaits(): void {
    this.waiters.forEach(({ end }) => end());
  }
}
