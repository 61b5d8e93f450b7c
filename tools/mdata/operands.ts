/*
 * The operands of the mdata programs, once commander has seen to their number.
 */
import assert from 'node:assert';

/** An operand that the usage asks for, so that its absence is our fault. */
export function operand(operands: readonly Buffer[], index: number): Buffer {
  const found = operands[index];
  assert(found !== undefined, 'an operand that the usage asks for is missing');
  return found;
}

/** `metadata for 'KEY'`, the platform's client's words. */
export function metadataFor(operands: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from("metadata for '"), operand(operands, 0), Buffer.from("'")]);
}
