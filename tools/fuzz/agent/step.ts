/*
 * What can happen to a node while the whole agent is fuzzed: one step after another, each a plain value,
 * so that a run is a list that can be printed, shortened, kept in test/corpus/agent and executed again.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { CORPUS } from '../corpus';
import { HEALTHY, SUFFERING } from './zones';

export const ZONE_ACTS = [
  'boot',
  'shutdown',
  'reboot',
  'reboot-guest',
  'destroy',
  'create',
  'reprovision',
  'snapshot',
  'rollback',
] as const;
export const FILES = ['metadata.json', 'tags.json', 'routes.json'] as const;
export const CONTENTS = [
  'valid',
  'cut',
  'odd',
  'empty',
  'list',
  'deep',
  'huge',
  'directory',
  'link',
  'gone',
] as const;
export const SOCKET_ACTS = ['unlink', 'file', 'directory-gone'] as const;
export const FAULTS = [
  'events.drop',
  'events.delay=100',
  'vminfod.down',
  'vminfod.freeze',
  'vminfod.delay=300',
  'vminfod.garbage',
  'lock.held=500',
  'disk.full',
  'ttyb.drop=5',
  'ttyb.held',
  'ttyb.flap=3',
] as const;
export const CONFIGS = ['usual', 'tight', 'broken'] as const;

const zone = z.literal([...SUFFERING]);
const stepSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('bytes'),
    zone,
    /** Bytes, one a character. */
    bytes: z.string(),
    times: z.number(),
    chunk: z.number().min(1),
    end: z.enum(['leave', 'finish', 'destroy']),
  }),
  z.strictObject({ kind: z.literal('connect'), zone, count: z.number() }),
  /** Writes of a well-behaved guest, to any zone: what is confirmed as stored must be there later. */
  z.strictObject({ kind: z.literal('write'), zone: z.number(), count: z.number() }),
  /** So many clients wait for a change; what ends the wait of each is `end`, or nothing. */
  z.strictObject({
    kind: z.literal('watch'),
    zone,
    count: z.number(),
    end: z.enum(['leave', 'ask', 'reset', 'destroy']),
  }),
  /** A client of a healthy zone waits, another one writes, and the first must be told. */
  z.strictObject({ kind: z.literal('tell'), zone: z.literal([...HEALTHY]) }),
  z.strictObject({ kind: z.literal('zone'), zone, act: z.enum(ZONE_ACTS) }),
  z.strictObject({
    kind: z.literal('file'),
    zone,
    file: z.enum(FILES),
    content: z.enum(CONTENTS),
  }),
  z.strictObject({ kind: z.literal('socket'), zone, act: z.enum(SOCKET_ACTS) }),
  /** From now on vminfod sends the zone's VM as the seed corrupts it. */
  z.strictObject({ kind: z.literal('object'), zone, seed: z.number() }),
  z.strictObject({ kind: z.literal('fault'), zone, text: z.enum(FAULTS) }),
  z.strictObject({ kind: z.literal('clear') }),
  /** vminfod says this on its stream. */
  z.strictObject({ kind: z.literal('stream'), bytes: z.string() }),
  z.strictObject({ kind: z.literal('config'), content: z.enum(CONFIGS) }),
  z.strictObject({
    kind: z.literal('agent'),
    signal: z.enum(['SIGKILL', 'SIGTERM', 'SIGHUP']),
    /** Killed so many ms after its new start once more, ready or not; 0: not. */
    againMs: z.number(),
  }),
  z.strictObject({ kind: z.literal('pause'), ms: z.number() }),
]);

export type Step = Readonly<z.infer<typeof stepSchema>>;

/** Steps as `printSteps` wrote them. @throws ZodError, SyntaxError */
export function parseSteps(text: string): Step[] {
  return z.array(stepSchema).parse(JSON.parse(text));
}

/** One step a line. */
export function printSteps(steps: readonly Step[]): string {
  return `[\n${steps.map((step) => `  ${JSON.stringify(step)}`).join(',\n')}\n]\n`;
}

/** The names of the files in test/corpus/agent. */
export function keptSteps(): string[] {
  return readdirSync(join(CORPUS, 'agent')).sort();
}

/** The steps that were kept under this name. */
export function readSteps(name: string): Step[] {
  return parseSteps(readFileSync(join(CORPUS, 'agent', name), 'utf8'));
}
