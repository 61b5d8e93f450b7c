/*
 * What a guest asked: one line, understood. (spec: protocol sections 2, 3, 5, 6, 7)
 */

/** How the answer must be written: V1 lines have no id, V2 frames carry the request's. */
export type Wire = { readonly version: 1 } | { readonly version: 2; readonly id: string };

export type Verb = 'GET' | 'KEYS' | 'PUT' | 'DELETE';

/** What needs the VM's data to be answered. Keys are trimmed and not empty; a value is as sent. */
export type DataRequest =
  | { readonly kind: 'get'; readonly wire: Wire; readonly key: string }
  | { readonly kind: 'keys'; readonly wire: Wire }
  | { readonly kind: 'put'; readonly wire: Wire; readonly key: string; readonly value: string }
  | { readonly kind: 'delete'; readonly wire: Wire; readonly key: string };

/** What is answered (or met with silence) from the line alone. */
export type LineRequest =
  /** An empty line, one that starts with white space, a GET without a key: `invalid command`. */
  | { readonly kind: 'reset'; readonly bare: boolean }
  | { readonly kind: 'negotiate'; readonly accepted: boolean }
  /** A payload that does not decode to what the verb needs: `Invalid VERB Request`. */
  | { readonly kind: 'malformed'; readonly wire: Wire; readonly verb: 'GET' | 'PUT' | 'DELETE' }
  | { readonly kind: 'unknown'; readonly wire: Wire; readonly verb: string }
  | { readonly kind: 'too-large'; readonly wire: Wire }
  /** A V2 line that is no valid frame: silence, and a record of why. */
  | { readonly kind: 'broken'; readonly reason: string; readonly line: Buffer };

export type Request = DataRequest | LineRequest;
