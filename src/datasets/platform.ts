/*
 * Platform stamps: may this platform host a "safe" delegated dataset?
 *
 * A SmartOS image is named by the time of its build, the same in `uname -v` (`joyent_<stamp>`) and in
 * a VM's `platform_buildstamp` (the stamp alone). Stamps of this form sort as text. Pure: the caller
 * asks the machine.
 */

/** The first platform with both the receive privilege and the two limits. */
export const OLDEST_STAMP = '20150418T000000Z';

const STAMP = /^(?:joyent_)?([0-9]{8}T[0-9]{6}Z)$/;

export type StampCheck =
  | { readonly kind: 'hosts' }
  | { readonly kind: 'too-old'; readonly stamp: string }
  | { readonly kind: 'unreadable' };

/** The bare stamp of `uname -v` or a `platform_buildstamp`; undefined for any other text. */
export function stampOf(text: string): string | undefined {
  return STAMP.exec(text.trim())?.[1];
}

/** Whether a platform of this stamp can host "safe" datasets. @param value whatever was given as one */
export function checkStamp(value: unknown): StampCheck {
  const stamp = typeof value === 'string' ? stampOf(value) : undefined;
  if (stamp === undefined) {
    return { kind: 'unreadable' };
  }
  return stamp < OLDEST_STAMP ? { kind: 'too-old', stamp } : { kind: 'hosts' };
}
