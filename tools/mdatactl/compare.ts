/*
 * Compare: the same questions to the agent that serves now and to our own handler, before the takeover.
 *
 *   each running OS zone --KEYS, every key listed, the well-known sdc: keys--> its socket
 *                         `-- the same, from vminfod's VM object and the config files --> metadata/handler
 *
 * Needs no daemon and only reads. One connection at a time and a bounded rate: guests of the agent that
 * serves notice nothing. What would crash the platform's agent is never asked (a value that is JSON null,
 * see `whyNotAsked`); HVM ports, which take one client, are never touched. An answer that differs is asked for
 * again with fresh data before it counts: values change. No value leaves this file, only lengths.
 */
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf, messageOf } from '../../src/lib/errors';
import { printableKey } from '../../src/log';
import {
  ownMap,
  parseJsonObject,
  type JsonObject,
  type MetadataMaps,
  type VmData,
  HVM_BRANDS,
} from '../../src/metadata/vm-data';
import { Paths } from '../../src/platform/paths';
import type { Outcome } from '../../src/protocol/client';
import type { DataRequest } from '../../src/protocol/request';
import { GuestChannel } from '../../src/transport/guest-channel';
import { recordOf } from '../../src/vm/vm-cache';
import { getText } from '../../src/vm/vminfod-client';
import {
  documentedId,
  ourAnswer,
  same,
  shapeOf,
  WELL_KNOWN,
  whyNotAsked,
  type AnswerShape,
  type DocumentedId,
  type ZoneData,
} from './compare-differences';
import { readIndex, type IndexZone } from '../preflight/check';
import { readReadyLine } from '../preflight/node-checks';

export interface Difference {
  readonly zonename: string;
  /** `KEYS`, or the key, made printable. */
  readonly key: string;
  /** Absent where it was not asked. */
  readonly theirs: AnswerShape | null;
  readonly ours: AnswerShape | null;
  /** Null: it is not documented. */
  readonly id: DocumentedId | null;
}

export interface CompareReport {
  /** Running OS zones that were asked and answered. */
  readonly zones: number;
  readonly unanswered: readonly { readonly zonename: string; readonly reason: string }[];
  readonly questions: number;
  readonly equal: number;
  readonly documented: readonly Difference[];
  readonly undocumented: readonly Difference[];
  readonly elapsed_ms: number;
}

export interface CompareOptions {
  readonly root: string;
  /** Absent: the platform's. */
  readonly vminfodUrl?: string;
  /** Asks so many zones at most, spread evenly over all. */
  readonly sample?: number;
  readonly signal?: AbortSignal;
}

/** The agent that serves answers from memory, in a fraction of a millisecond. */
const QUESTIONS_PER_SECOND = 100;
/** A question, or the files of a zone. */
const LIMIT_MS = 10_000;
/** An answer that differs is asked for again so often, after so long: vminfod reports a change in between. */
const REPEATS = 3;
const REPEAT_MS = 700;
const MAX_FILE_BYTES = 16 * 1024 * 1024;

/** @throws SystemError or BrokenLine where vminfod or the index cannot be read, or no zone answers */
export async function compare(options: CompareOptions): Promise<CompareReport> {
  const began = performance.now();
  const paths = new Paths(options.root);
  const url = options.vminfodUrl ?? paths.vminfodUrl;
  const signal = options.signal ?? new AbortController().signal;
  const zones = spread(await runningZones(paths, url, signal), options.sample);
  const nextTurn = paced(QUESTIONS_PER_SECOND);
  const unanswered: { zonename: string; reason: string }[] = [];
  const results: ZoneResult[] = [];
  for (const zone of zones) {
    signal.throwIfAborted();
    try {
      results.push(await compareZone({ zone, paths, url, signal, nextTurn }));
    } catch (err) {
      signal.throwIfAborted();
      unanswered.push({ zonename: zone.zonename, reason: messageOf(err) });
    }
  }
  const [first] = unanswered;
  if (first !== undefined && results.length === 0) {
    throw new Error(`no zone answers; ${first.zonename}: ${first.reason}`);
  }
  const differences = results.flatMap((result) => result.differences);
  return {
    zones: results.length,
    unanswered,
    questions: sum(results.map(({ questions }) => questions)),
    equal: sum(results.map(({ equal }) => equal)),
    documented: differences.filter(({ id }) => id !== null),
    undocumented: differences.filter(({ id }) => id === null),
    elapsed_ms: Math.round(performance.now() - began),
  };
}

async function runningZones(paths: Paths, url: string, signal: AbortSignal): Promise<IndexZone[]> {
  const { vms } = await within(signal, (limited) => readReadyLine(url, limited));
  const known = new Map(vms.map((vm) => [vm.zonename, vm]));
  return (await readIndex(paths)).zones.filter(({ zonename, brand }) => {
    const vm = known.get(zonename);
    return vm?.zoneState === 'running' && !HVM_BRANDS.has(brand) && !HVM_BRANDS.has(vm.brand);
  });
}

/** Ends what takes too long. Not by AbortSignal.timeout: Node 20 may collect one in AbortSignal.any. */
async function within<T>(
  signal: AbortSignal,
  work: (limited: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const timer = setTimeout(() => {
    limit.abort(new Error(`no answer within ${LIMIT_MS / 1000} s`));
  }, LIMIT_MS);
  try {
    return await work(AbortSignal.any([signal, limit.signal]));
  } finally {
    clearTimeout(timer);
  }
}

/** Evenly, so that a sample has old zones and new ones. */
function spread<T>(items: readonly T[], most = items.length): T[] {
  const step = items.length / Math.min(most, items.length);
  return Array.from({ length: Math.min(most, items.length) }, (_, n) => {
    return items.slice(Math.floor(n * step), Math.floor(n * step) + 1);
  }).flat();
}

interface ZoneTask {
  readonly zone: IndexZone;
  readonly paths: Paths;
  readonly url: string;
  readonly signal: AbortSignal;
  /** Resolves when the next question may be asked. */
  readonly nextTurn: () => Promise<unknown>;
}

interface ZoneResult {
  readonly questions: number;
  readonly equal: number;
  readonly differences: readonly Difference[];
}

async function compareZone(task: ZoneTask): Promise<ZoneResult> {
  const { zone, paths } = task;
  // Looked up first: the platform's agent crashes on a question for a VM that it does not know.
  let data = await readZone(task);
  const channel = await within(task.signal, (limited) => {
    return GuestChannel.open(paths.zoneSocket(zone.zonename), limited);
  });
  const differences: Difference[] = [];
  let questions = 0;
  let equal = 0;
  try {
    const ask = async (request: DataRequest): Promise<Outcome | null> => {
      const key = request.kind === 'get' ? request.key : 'KEYS';
      const why = whyNotAsked(request, data.vm);
      if (why !== null) {
        differences.push({
          zonename: zone.zonename,
          key: printableKey(key),
          theirs: null,
          ours: shapeOf(await ourAnswer(data.data, request)),
          id: why,
        });
        return null;
      }
      questions++;
      for (let n = 0; ; n++) {
        await task.nextTurn();
        task.signal.throwIfAborted();
        const theirs = await askOther(channel, request, task.signal);
        const ours = await ourAnswer(data.data, request);
        if (same(theirs, ours)) {
          equal++;
          return theirs;
        }
        const id = await documentedId(request, data, theirs, ours);
        if (n === REPEATS || (id !== null && id !== 'vminfod-stale')) {
          const shapes = { theirs: shapeOf(theirs), ours: shapeOf(ours) };
          differences.push({ zonename: zone.zonename, key: printableKey(key), ...shapes, id });
          return theirs;
        }
        await delay(REPEAT_MS);
        data = await readZone(task);
        if (whyNotAsked(request, data.vm) !== null) {
          return theirs;
        }
      }
    };
    const keys = await ask({ kind: 'keys', wire: V2 });
    const names = keys?.kind === 'success' ? keys.data.toString('utf8').split('\n') : [];
    for (const key of new Set([...names, ...WELL_KNOWN])) {
      // What is empty or has blanks around it is another key once it was sent.
      if (key !== '' && key === key.trim()) {
        await ask({ kind: 'get', wire: V2, key });
      }
    }
  } finally {
    channel.close();
  }
  return { questions, equal, differences };
}

const V2 = { version: 2, id: '00000000' } as const;

async function readZone({ zone, paths, url, signal }: ZoneTask): Promise<ZoneData> {
  const path = `/vms/${encodeURIComponent(zone.zonename)}`;
  const text = await within(signal, (limited) => getText(url, path, limited));
  const vm = parseJsonObject(text);
  const record = vm === undefined ? undefined : recordOf(vm);
  const known = record === undefined ? undefined : parseJsonObject(record.json);
  if (vm === undefined || known === undefined || record?.facts.zonename !== zone.zonename) {
    throw new Error('vminfod does not have its VM object');
  }
  const directory = paths.host(`${zone.zonepath}/config`);
  const files = {
    metadata: await readConfig(directory, 'metadata'),
    tags: await readConfig(directory, 'tags'),
    routes: await readConfig(directory, 'routes'),
  };
  const { metadata = {}, tags = {}, routes = {} } = files;
  const copies = { tags: ownMap(vm, 'tags'), routes: ownMap(vm, 'routes') };
  const fromFiles = {
    tags: new Map(Object.entries(tags)),
    routes: new Map(Object.entries(routes)),
  };
  const there = Object.values(files).every((file) => file !== undefined);
  return {
    vm,
    data: vmData(zone.zonename, known, mapsOf(metadata), fromFiles),
    stale: there ? vmData(zone.zonename, known, mapsOf(vm), copies) : null,
  };
}

function mapsOf(object: JsonObject): MetadataMaps {
  return {
    customer: ownMap(object, 'customer_metadata'),
    internal: ownMap(object, 'internal_metadata'),
  };
}

function vmData(
  zonename: string,
  vm: JsonObject,
  maps: MetadataMaps,
  { tags, routes }: Record<'tags' | 'routes', ReadonlyMap<string, unknown>>,
): VmData {
  const data: VmData = {
    zonename,
    metadata: () => maps,
    load: () => data,
    fileBytes: () => 0,
    // Nobody asks for it: the platform's agent has no such keys.
    use: () => ({ bytes: 0, bytesMax: 0, keys: 0, keysMax: 0 }),
    tags: () => tags,
    routes: () => routes,
    vm: () => vm,
    loaded: () => Promise.resolve(vm),
    change: () => Promise.resolve({ kind: 'failed', text: 'only read' }),
  };
  return data;
}

/** Undefined where it is not there or cannot be understood, which reads as empty (as the agent does). */
async function readConfig(directory: string, name: string): Promise<JsonObject | undefined> {
  const path = join(directory, `${name}.json`);
  try {
    const stat = await lstat(path);
    if (!stat.isFile() || stat.size > MAX_FILE_BYTES) {
      return undefined;
    }
    const signal = AbortSignal.timeout(LIMIT_MS);
    return parseJsonObject(await readFile(path, { encoding: 'utf8', signal }));
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return undefined;
    }
    throw err;
  }
}

/** What the agent that serves answers. Rejects where there is no answer within the limit. */
async function askOther(
  channel: GuestChannel,
  request: DataRequest,
  signal: AbortSignal,
): Promise<Outcome> {
  const outcome = await within(signal, (limited) => {
    return channel.ask(
      request.kind === 'get' ? { kind: 'get', key: Buffer.from(request.key) } : { kind: 'keys' },
      limited,
    );
  });
  if (outcome.kind === 'reopen') {
    throw new Error(outcome.reason);
  }
  return outcome;
}

/** @returns resolves so often a second, evenly */
function paced(perSecond: number): () => Promise<unknown> {
  let next = 0;
  return () => {
    const now = performance.now();
    const at = Math.max(now, next);
    next = at + 1000 / perSecond;
    return at > now ? delay(at - now) : Promise.resolve();
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}

/** 2 where a difference is not documented. */
export function exitOfCompare({ undocumented }: CompareReport): 0 | 2 {
  return undocumented.length > 0 ? 2 : 0;
}
