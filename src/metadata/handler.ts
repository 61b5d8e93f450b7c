/*
 * From a request to its answer, over whatever holds the VM's data. Pure but for the store it is given.
 */
import type { JsonObject } from '../vm/vm';

/** Flat metadata as the config file holds it: own names only, file order kept. */
export interface MetadataMaps {
  readonly customer: ReadonlyMap<string, unknown>;
  readonly internal: ReadonlyMap<string, unknown>;
}

/** A change of one key, as a guest asks for it. */
export type Change =
  | {
      readonly kind: 'set';
      readonly map: 'customer' | 'internal';
      readonly key: string;
      readonly value: string;
    }
  | { readonly kind: 'remove'; readonly map: 'customer' | 'internal'; readonly key: string };

/** Result of a change: `stored`, or the fixed words that the guest is told. Never a path, never a value. */
export type ChangeResult =
  { readonly kind: 'stored' } | { readonly kind: 'failed'; readonly text: string };

/** The data of one VM. Implemented by vm/store. */
export interface VmData {
  /** From `metadata.json`, fresh by stat. A missing or unparsable file reads as empty. */
  metadata(): MetadataMaps;
  /** From `tags.json`, in the same way. */
  tags(): ReadonlyMap<string, unknown>;
  /** From `routes.json`, in the same way. */
  routes(): ReadonlyMap<string, unknown>;
  /** The VM object as vminfod told it last, undefined while it is not known. */
  vm(): JsonObject | undefined;
  /** Waits for the VM object: undefined when it did not come in time (5 s at most). */
  loaded(): Promise<JsonObject | undefined>;
  /** Durable when it resolves to `stored`. Never rejects; settles within 30 s. */
  change(change: Change): Promise<ChangeResult>;
}
