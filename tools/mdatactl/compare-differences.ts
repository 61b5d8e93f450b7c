/*
 * What compare (compare.ts) asks, what it must not ask, and which differences from the platform's agent are
 * meant. Pure: answers come in, ids and lengths go out.
 */
import { DENIED, WELL_KNOWN_NAMES } from '../../src/metadata/sdc';
import { isJsonObject, own, type JsonObject, type VmData } from '../../src/metadata/vm-data';
import type { DataRequest } from '../../src/protocol/request';
import { answer } from '../../src/metadata/handler';
import type { Outcome } from '../../src/protocol/client';
import { Tokens } from '../../src/metadata/watch';

/** Differences from the platform's agent that are meant: what is different, and why. */
export const DOCUMENTED = {
  D2: 'internal_metadata as a whole is not readable by guests',
  D3: "the host's passwords and hypervisor options are not readable by guests",
  D4: 'names of the object prototype are not found, instead of a failure',
  D5: "not asked: a value of null makes the platform's agent crash",
  D6: "not asked: metadata maps or routes of another shape make the platform's agent crash",
  D21: 'KEYS leaves out names that cannot be listed: empty, sdc:, control characters',
  D27: 'an array is a failure, also where it is empty or has one number',
  'vminfod-stale': "the config file is newer than vminfod's copy; ours is the file's value",
} as const;

export type DocumentedId = keyof typeof DOCUMENTED;

/** What can be shown of an answer without its value. */
export interface AnswerShape {
  readonly kind: 'success' | 'notfound' | 'failure';
  /** Bytes of the value. */
  readonly length: number | null;
}

/** keys.ts and sdc.ts say what each is; those that consumers in guests ask for. */
export const WELL_KNOWN = [...WELL_KNOWN_NAMES, 'vendor-data', 'type', 'device'].map(
  (name) => `sdc:${name}`,
);

export interface ZoneData {
  /** As vminfod reports it now, whole. */
  readonly vm: JsonObject;
  /** As our agent has it: the config files, and the VM object for the rest. */
  readonly data: VmData;
  /** With vminfod's copies of the files; null where they do not differ, or a file is not there. */
  readonly stale: VmData | null;
}

/**
 * Which known crash of the platform's agent a question would meet (agent.js, makeMetadataHandler): null
 * values, maps that are not there, and routes that are not text. Null where it may be asked.
 */
export function whyNotAsked(request: DataRequest, vm: JsonObject): DocumentedId | null {
  const customer = own(vm, 'customer_metadata');
  const internal = own(vm, 'internal_metadata');
  const spaces = own(vm, 'internal_metadata_namespaces');
  if (spaces !== undefined && !isListOf(spaces, 'string')) {
    return 'D6';
  }
  if (request.kind !== 'get') {
    return isJsonObject(customer) && isJsonObject(internal) ? null : 'D6';
  }
  const { key } = request;
  if (key === 'sdc:operator-script' || key === 'sdc:volumes') {
    const name = key === 'sdc:volumes' ? key : 'operator-script';
    return isJsonObject(internal) ? nullIs(own(internal, name)) : 'D6';
  }
  if (key === 'sdc:routes') {
    return hasPlainRoutes(vm) ? null : 'D6';
  }
  if (key.startsWith('sdc:')) {
    return nullIs(own(vm, key.slice(4)));
  }
  const maps = [customer, internal];
  return maps.every((map) => !isJsonObject(map) || own(map, key) !== null) ? null : 'D5';
}

function nullIs(value: unknown): DocumentedId | null {
  return value === null ? 'D5' : null;
}

function hasPlainRoutes(vm: JsonObject): boolean {
  const routes = own(vm, 'routes');
  const nics = own(vm, 'nics') ?? [];
  return (
    (routes === undefined || (isJsonObject(routes) && isListOf(Object.values(routes), 'string'))) &&
    Array.isArray(nics) &&
    nics.every((nic) => isJsonObject(nic) && ['string', 'undefined'].includes(typeof nic.ip))
  );
}

function isListOf(value: unknown, type: 'string'): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === type);
}

/** Why an answer may differ; null where there is no reason that is documented. */
export async function documentedId(
  request: DataRequest,
  { vm, stale }: ZoneData,
  theirs: Outcome,
  ours: Outcome,
): Promise<DocumentedId | null> {
  if (stale !== null && same(theirs, await ourAnswer(stale, request))) {
    return 'vminfod-stale';
  }
  if (request.kind !== 'get') {
    return same(withoutUnlistable(theirs), ours) ? 'D21' : null;
  }
  const { key } = request;
  const name = key.startsWith('sdc:') ? key.slice(4) : '';
  if (DENIED.has(name) || name.startsWith('internal_metadata.')) {
    return ours.kind !== 'notfound' ? null : name.startsWith('internal_metadata') ? 'D2' : 'D3';
  }
  if (theirs.kind === 'failure' && ours.kind === 'notfound') {
    return (name || key) in Object.prototype ? 'D4' : null;
  }
  const value = own(vm, name);
  const rendersAsScalar =
    Array.isArray(value) &&
    value.length < 2 &&
    theirs.kind === 'success' &&
    ours.kind === 'failure';
  return rendersAsScalar ? 'D27' : null;
}

/** A name with LF in it has become two; what is left of it cannot be distinguished from a name of its own. */
function withoutUnlistable(outcome: Outcome): Outcome {
  if (outcome.kind !== 'success') {
    return outcome;
  }
  const names = outcome.data.toString('utf8').split('\n');
  const kept = names.filter((name) => {
    return name !== '' && !name.startsWith('sdc:') && !/[\u0000-\u001f\u007f]/.test(name);
  });
  return { kind: 'success', data: Buffer.from(kept.join('\n')) };
}

/** The text of a failure is for people, and each agent has its own. */
export function same(a: Outcome, b: Outcome): boolean {
  return a.kind === 'success' && b.kind === 'success' ? a.data.equals(b.data) : a.kind === b.kind;
}

export function shapeOf(outcome: Outcome): AnswerShape {
  return outcome.kind === 'success'
    ? { kind: 'success', length: outcome.data.length }
    : { kind: outcome.kind === 'notfound' ? 'notfound' : 'failure', length: null };
}

export async function ourAnswer(data: VmData, request: DataRequest): Promise<Outcome> {
  const options = {
    operatorScriptWritable: false,
    commaDeletes: true,
    emptyValuesStored: false,
    // No other agent has these verbs: they are not asked.
    tokens: new Tokens(Buffer.alloc(0), () => Promise.resolve()),
    withRoom: <T>(_zonename: string, _bytes: number, work: () => Promise<T>): Promise<T> => work(),
    replyBytes: 0,
    hello: '',
    onFault: () => undefined,
  };
  const reply = await answer(data, request, options);
  if (reply.kind !== 'success') {
    return reply;
  }
  const { text } = reply;
  return { kind: 'success', data: typeof text === 'string' ? Buffer.from(text) : text };
}
