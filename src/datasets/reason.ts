/*
 * Why a payload is refused: one reason for each rule that it breaks, with a code for programs and words for
 * people. Shared by all of datasets/; it knows no rule itself.
 *
 * A reason shows values of the members that the rules read, and never a metadata value.
 */
import type { JsonObject } from '../metadata/vm-data';

export type ReasonCode =
  | 'payload-not-object'
  | 'delegate-dataset-value'
  | 'feature-off'
  | 'brand-not-text'
  | 'hvm-brand'
  | 'owner-missing'
  | 'owner-not-allowed'
  | 'platform-unreadable'
  | 'platform-too-old'
  | 'limit-priv-malformed'
  | 'limit-priv-grants-import'
  | 'limit-not-number'
  | 'limit-removed'
  | 'limit-below-use'
  | 'no-delegated-dataset'
  | 'hvm-snapshot'
  | 'zoneroot-unknown';

export interface Reason {
  readonly code: ReasonCode;
  /** The member that breaks the rule, empty for the whole. */
  readonly member: string;
  /** What is wrong with which value, and what to do; it can stand without the code. */
  readonly text: string;
}

export type Expansion =
  | { readonly kind: 'accepted'; readonly payload: JsonObject }
  | { readonly kind: 'refused'; readonly reasons: readonly [Reason, ...Reason[]] };

/** Longest value in a reason, characters: a line of a terminal or two. */
const SHOWN_CHARS = 160;

/** The payload, unless there is a reason against it. */
export function outcome(payload: JsonObject, reasons: readonly Reason[]): Expansion {
  const [first, ...others] = reasons;
  return first === undefined
    ? { kind: 'accepted', payload }
    : { kind: 'refused', reasons: [first, ...others] };
}

/** A value as JSON, cut where it would fill the terminal. */
export function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text;
}
