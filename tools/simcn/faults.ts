/*
 * The faults that a node can have injected, by name, for all zones or for one.
 *
 * The table keeps those that are active. Some are asked for where they matter (the event channel,
 * vmadm); the others are acted on when they come and when they go (injector.ts).
 */
import { z } from 'zod';

/** What a fault's value means. */
type ValueKind = 'none' | 'ms' | 'count' | 'optional';

export const FAULTS = {
  'events.drop': 'none',
  'events.delay': 'ms',
  'events.late-free': 'ms',
  'vminfod.down': 'none',
  'vminfod.freeze': 'none',
  'vminfod.delay': 'ms',
  'vminfod.garbage': 'none',
  'lock.held': 'optional',
  'vmadm.hang': 'ms',
  'vmadm.fail': 'none',
  'disk.full': 'none',
  'ttyb.drop': 'optional',
  'ttyb.held': 'none',
  'ttyb.flap': 'count',
} as const satisfies Record<string, ValueKind>;

export type FaultName = keyof typeof FAULTS;
/** Over as soon as they have happened. */
const MOMENTARY: readonly FaultName[] = ['vminfod.garbage', 'ttyb.flap'];

/** Of one zone: all zones at once is nothing that happens to a node. */
const ZONE_FAULTS: readonly FaultName[] = [
  'lock.held',
  'disk.full',
  'ttyb.drop',
  'ttyb.held',
  'ttyb.flap',
];

export interface Fault {
  readonly name: FaultName;
  /** Milliseconds or a count; 0 where none was given. */
  readonly value: number;
  /** The zone it is for, null for all. */
  readonly zonename: string | null;
}

/** A fault as the node tells it. */
export const faultSchema = z.object({
  name: z.string(),
  value: z.number(),
  zonename: z.string().nullable(),
});

/** The arguments of `simcn fault` that make it. */
export function faultText({ name, value, zonename }: z.infer<typeof faultSchema>): string {
  const shown = value === 0 ? name : `${name}=${value}`;
  return zonename === null ? shown : `${shown} --zone ${zonename}`;
}

/**
 * Parses `NAME` or `NAME=VALUE`.
 * @throws Error with a message for a person
 */
export function parseFault(text: string, zonename: string | null): Fault {
  const at = text.indexOf('=');
  const name = at < 0 ? text : text.slice(0, at);
  if (!isFaultName(name)) {
    throw new Error(`no such fault: ${name} (known: ${Object.keys(FAULTS).join(', ')})`);
  }
  if (ZONE_FAULTS.includes(name) && zonename === null) {
    throw new Error(`${name} is a zone's fault: say which with --zone UUID`);
  }
  return { name, value: parseValue(name, at < 0 ? null : text.slice(at + 1)), zonename };
}

function parseValue(name: FaultName, text: string | null): number {
  const kind: ValueKind = FAULTS[name];
  if (text === null) {
    if (kind === 'ms' || kind === 'count') {
      throw new Error(`${name} needs a value: ${name}=${kind === 'ms' ? 'MILLISECONDS' : 'COUNT'}`);
    }
    return 0;
  }
  if (kind === 'none') {
    throw new Error(`${name} takes no value`);
  }
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0 || value > 86_400_000) {
    throw new Error(`${name}: a whole number from 0 to 86400000 is needed, not ${text}`);
  }
  return value;
}

function isFaultName(name: string): name is FaultName {
  return Object.hasOwn(FAULTS, name);
}

/** The faults that are switched on, for a zone or for all. */
export class FaultTable {
  private faults: Fault[] = [];

  /** A fault of the same name and zone is replaced. One that is over at once is not kept. */
  set(fault: Fault): void {
    this.unset(fault.name, fault.zonename);
    if (MOMENTARY.includes(fault.name)) {
      return;
    }
    this.faults.push(fault);
  }

  unset(name: FaultName, zonename: string | null): void {
    this.faults = this.faults.filter((f) => f.name !== name || f.zonename !== zonename);
  }

  /** The zone is gone. */
  remove(zonename: string): void {
    this.faults = this.faults.filter((fault) => fault.zonename !== zonename);
  }

  /** The fault as it holds for the zone: its own goes before that of all zones. */
  of(name: FaultName, zonename: string): Fault | undefined {
    return (
      this.faults.find((f) => f.name === name && f.zonename === zonename) ??
      this.faults.find((f) => f.name === name && f.zonename === null)
    );
  }

  all(): readonly Fault[] {
    return this.faults;
  }

  clear(): void {
    this.faults = [];
  }
}
