/*
 * `mdatactl get`: a key as the guest would see it, through the zone's real socket.
 *
 * The value may be a password: it is shown only with --show-value.
 */
import type { ZoneReport } from '../../src/admin/status';
import { printableKey } from '../../src/log';
import { ask } from '../mdata/session';
import { ControlError } from './client';

/** A request for a VM that is not known yet is answered after 5 s. */
const LIMIT_MS = 10_000;

export interface Got {
  readonly zonename: string;
  readonly key: string;
  readonly found: boolean;
  /** In bytes; null when there is none. */
  readonly length: number | null;
  /** With `--show-value` only. */
  readonly value?: string;
  /** In its place where the value is no UTF-8. */
  readonly value_base64?: string;
}

/**
 * Asks through the zone's socket, as a process of the global zone.
 * @param showValue whether the value itself is in the result
 * @throws ControlError where the zone has no socket, and for a FAILURE
 */
export async function getKey(
  zone: ZoneReport,
  key: string,
  showValue: boolean,
  note: (text: string) => void,
): Promise<Got> {
  const { zonename, kind, path } = zone;
  if (kind === 'port') {
    throw new ControlError(
      `${zonename} is a ${zone.brand} guest: it has a serial port, no socket`,
      [
        'ask in the guest itself: mdata-get KEY',
        `mdatactl zone ${zonename} shows what the guest asked last, and the answer`,
      ],
    );
  }
  const command = { kind: 'get', key: Buffer.from(key) } as const;
  const outcome = await ask(command, { paths: [path], limitMs: LIMIT_MS, note });
  const about = { zonename, key };
  switch (outcome.kind) {
    case 'success':
      return {
        ...about,
        found: true,
        length: outcome.data.length,
        ...(showValue ? valueOf(outcome.data) : {}),
      };
    case 'notfound':
      return { ...about, found: false, length: null };
    case 'failure':
      throw new ControlError(`GET ${printableKey(key)}: FAILURE ${outcome.text}`.trimEnd(), [
        `mdatactl doctor ${zonename}`,
      ]);
    default: {
      const never: never = outcome;
      return never;
    }
  }
}

function valueOf(data: Buffer): Pick<Got, 'value' | 'value_base64'> {
  const value = data.toString('utf8');
  return Buffer.from(value).equals(data) ? { value } : { value_base64: data.toString('base64') };
}
