/*
 * A value that no code under test can change without a TypeError: itself and all below it frozen.
 */

export function deepFrozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const member of Object.values(value)) {
      deepFrozen(member);
    }
  }
  return value;
}
