/*
 * What a guest is told, and its bytes. (spec: protocol sections 5, 7)
 */

/** A data answer. `text` is the value, the list of names, or the reason of a failure. */
export type Reply =
  | { readonly kind: 'success'; readonly text: string }
  | { readonly kind: 'notfound' }
  | { readonly kind: 'failure'; readonly text: string };
