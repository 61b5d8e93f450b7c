/*
 * Answers a request from the VM's data.
 *
 * A fault of ours is a FAILURE for that request. What is known is answered at once, not by a promise. Only keys with a
 * colon need the VM object (for its namespaces and properties); all others are answered even if vminfod never answers.
 * "I do not know yet" is never NOTFOUND: a guest would be set up wrongly for good.
 */
import type { GetReply, Reply } from '../protocol/reply';
import {
  MAX_KEY_BYTES,
  MAX_WATCH_KEYS,
  MAX_WATCH_KEYS_BYTES,
  MAX_WATCH_SECONDS,
  VERBS,
  type DataRequest,
  type WriteRequest,
} from '../protocol/request';
import {
  classify,
  listNeedsNamespaces,
  lostNamespaces,
  nameList,
  namespacesOf,
  needsNamespaces,
  SDC_PREFIX,
} from './keys';
import { metadataNeedOf, render, sdcValue } from './sdc';
import {
  UnwantedError,
  type Change,
  type JsonObject,
  type MetadataMaps,
  type TokenCheck,
  type VmData,
} from './vm-data';
import { NO_TOKEN, replyToGetAll, tokenOf, type Tokens, type WatchedData } from './watch';

export interface AnswerOptions {
  /**
   * Whether a guest may PUT `operator-script`, which replaces the operator's own script, as the platform's agent lets
   * it. It may always DELETE it: scripts that remove themselves after their first run are common.
   */
  readonly operatorScriptWritable: boolean;
  /**
   * Whether a PUT of an empty value stores it. Images rely on the refusal: an empty pipeline into `mdata-put` must not
   * leave a key that the next boot takes for a value.
   */
  readonly emptyValuesStored: boolean;
  /** Whether a key with a comma can be removed: the platform's VM tool cannot, our own writer can. */
  readonly commaDeletes: boolean;
  readonly tokens: Tokens;
  /**
   * Answers a request that holds all names of a zone with a long metadata file, and takes so many bytes meanwhile: one
   * of a zone at a time, and of all zones those that their budget has room for.
   */
  readonly withRoom: (
    zonename: string,
    bytes: number,
    work: () => Promise<Reply>,
  ) => Promise<Reply>;
  /** Longest JSON of a GETALL, bytes. */
  readonly replyBytes: number;
  /** What HELLO is answered with. */
  readonly hello: string;
  /** Called with a fault of ours that a request met. The error may name the VM's files, never a value. */
  readonly onFault: (zonename: string, request: DataRequest, err: unknown) => void;
}

/** For a request of a zone that is gone from the node. */
export const VM_NOT_FOUND: Reply = { kind: 'failure', text: 'VM not found' };
/** To a change by a peer that may only read. */
export const READ_ONLY: Reply = { kind: 'failure', text: 'Permission denied.' };

const NOT_LOADED: Reply = { kind: 'failure', text: 'VM data is not available yet.' };
const FAULT: Reply = { kind: 'failure', text: 'Internal error.' };
/** Requests for all keys of a longer metadata file take turns. */
const SHORT_FILE_BYTES = 8 * 1024;
/** What one holds for each byte of the file: names as strings, the longest value, JSON, offsets. */
const MEMORY_PER_BYTE = 4;
const OPERATOR_SCRIPT = 'operator-script';
/** For requests that need nothing of the VM object. */
const NO_VM: JsonObject = {};

/**
 * Answers a request for the VM whose data is given. Never throws; a promise never rejects.
 *
 * @param isWanted false: whoever asked is gone, and a read that has not begun is left; always wanted when left out
 */
export function answer(
  data: VmData,
  request: DataRequest,
  options: AnswerOptions,
  isWanted?: () => boolean,
): Reply | Promise<Reply> {
  const fault = (err: unknown): Reply => {
    if (!(err instanceof UnwantedError)) {
      options.onFault(data.zonename, request, err);
    }
    return FAULT;
  };
  try {
    const asksForAll = request.kind === 'getall' || request.kind === 'watch';
    const bytes = asksForAll ? data.fileBytes() : 0;
    const reply =
      bytes > SHORT_FILE_BYTES
        ? options.withRoom(data.zonename, MEMORY_PER_BYTE * bytes, async () => {
            // One that reads nothing ends at once, and the next one begins then: all that wait, in one iteration.
            await options.tokens.pause();
            if (isWanted?.() === false) {
              throw new UnwantedError();
            }
            return respond(data, request, options, isWanted);
          })
        : respond(data, request, options, isWanted);
    return reply instanceof Promise ? reply.catch(fault) : reply;
  } catch (err) {
    return fault(err);
  }
}

function respond(
  data: VmData,
  request: DataRequest,
  options: AnswerOptions,
  isWanted?: () => boolean,
): Reply | Promise<Reply> {
  switch (request.kind) {
    case 'get': {
      const { key } = request;
      return withData(data, needOfKey(key), isWanted, needsNamespaces(key), (ready, vm) => {
        return get(ready, vm, key);
      });
    }
    case 'keys':
      return withData(data, null, isWanted, listNeedsNamespaces, (ready, vm) => {
        return nameList(ready.metadata(), namespacesOf(vm));
      });
    case 'watch': {
      const { keys } = request;
      const needsVm = keys?.some(needsNamespaces) ?? listNeedsNamespaces;
      return withData(data, null, isWanted, needsVm, (ready, vm) => {
        // Whoever asked waits until it is another one.
        const token = tokenOf(watchedData(ready, data, vm, options.tokens), keys);
        return whenKnown<string, Reply>(token, (text) => ({ kind: 'success', text }));
      });
    }
    case 'getall':
      return withData(data, null, isWanted, true, (ready, vm) => {
        return replyToGetAll(watchedData(ready, data, vm, options.tokens), options.replyBytes);
      });
    case 'hello':
      return { kind: 'success', text: options.hello };
    case 'put':
    case 'delete': {
      const { key } = request;
      const need = key.startsWith(DOCKER_PREFIX) ? null : undefined;
      return withData(data, need, isWanted, needsNamespaces(key), (ready, vm) => {
        return write(ready, vm, request, options);
      });
    }
    default: {
      const never: never = request;
      return never;
    }
  }
}

/**
 * Replies with the data that a request needs.
 * @param key whose value is read of the metadata; null for names only, undefined for nothing
 */
function withData(
  data: VmData,
  key: string | null | undefined,
  isWanted: (() => boolean) | undefined,
  needsVm: boolean | ((maps: MetadataMaps) => boolean),
  replyWith: (ready: VmData, vm: JsonObject) => Reply | Promise<Reply>,
): Reply | Promise<Reply> {
  const loaded = key === undefined ? data : data.load({ key, isWanted });
  return whenKnown(loaded, (ready) => {
    const isNeeded = typeof needsVm === 'boolean' ? needsVm : needsVm(ready.metadata());
    const known = isNeeded ? (ready.vm() ?? ready.loaded()) : NO_VM;
    return whenKnown(known, (vm) => (vm === undefined ? NOT_LOADED : replyWith(ready, vm)));
  });
}

/** What is known is used at once, not in a later microtask. */
function whenKnown<T, R>(
  value: T | Promise<T>,
  then: (value: T) => R | Promise<R>,
): R | Promise<R> {
  return value instanceof Promise ? value.then(then) : then(value);
}

/** The key whose value a GET reads of the metadata; null for names only, undefined for nothing. */
function needOfKey(key: string): string | null | undefined {
  return key.startsWith(SDC_PREFIX) ? metadataNeedOf(key.slice(SDC_PREFIX.length)) : key;
}

/** @param origin loads values that `data` was not made ready for */
function watchedData(data: VmData, origin: VmData, vm: JsonObject, tokens: Tokens): WatchedData {
  const maps = data.metadata();
  return {
    tokens,
    maps,
    namespaces: namespacesOf(vm),
    get: (key) => {
      const need = maps.onDisk === undefined ? undefined : needOfKey(key);
      const loaded = need === undefined ? data : origin.load({ key: need });
      return whenKnown(loaded, (ready) => get(ready, vm, key));
    },
  };
}

function get(data: VmData, vm: JsonObject, key: string): GetReply {
  const keyClass = classify(key, namespacesOf(vm));
  if (keyClass === 'sdc') {
    return sdcValue(key.slice(SDC_PREFIX.length), vm, data);
  }
  const { customer, internal } = data.metadata();
  return render((keyClass === 'plain' ? customer : internal).get(key));
}

function write(
  data: VmData,
  vm: JsonObject,
  request: WriteRequest,
  options: AnswerOptions,
): Reply | Promise<Reply> {
  const refusal = refusalOf(data, vm, request, options);
  if (refusal !== null) {
    return { kind: 'failure', text: refusal };
  }
  return data.change(changeOf(request, options.tokens)).then((result) => {
    const { uncharged, limit } = result;
    const change = { ...(uncharged && { uncharged }), ...(limit && { limit }) };
    return result.kind === 'stored'
      ? { kind: 'success', text: 'OK', change }
      : { kind: 'failure', text: result.text, change };
  });
}

/** Why a write is refused, as the guest reads it; null where it is tried. */
function refusalOf(
  data: VmData,
  vm: JsonObject,
  request: WriteRequest,
  options: AnswerOptions,
): string | null {
  const { key } = request;
  const namespace = namespaceOf(key, data, vm);
  if (namespace !== null) {
    return `Cannot update the "${namespace}" Namespace.`;
  }
  if (request.kind === 'delete') {
    return key.includes(',') && !options.commaDeletes
      ? 'Cannot delete a key that contains a comma.'
      : null;
  }
  if (key === OPERATOR_SCRIPT && !options.operatorScriptWritable) {
    return 'Cannot update the "operator-script" Key.';
  }
  return request.value.length === 0 && !options.emptyValuesStored
    ? 'Empty values are not stored.'
    : null;
}

const DOCKER_PREFIX = 'docker:';

/**
 * The namespace in which a guest may not write; null where it may.
 *
 * A docker VM that lost its list of namespaces (a migration can) would take `docker:` keys for the
 * guest's own and let it write what tools trust. On all other VMs `docker:` is a name like any other.
 */
function namespaceOf(key: string, data: VmData, vm: JsonObject): string | null {
  const namespaces = namespacesOf(vm);
  const keyClass = classify(key, namespaces);
  if (keyClass === 'sdc' || keyClass === 'namespaced') {
    return key.slice(0, key.indexOf(':'));
  }
  const isDocker =
    key.startsWith(DOCKER_PREFIX) &&
    (vm.docker === true || lostNamespaces(data.metadata().internal, namespaces).includes('docker'));
  return isDocker ? 'docker' : null;
}

function changeOf(request: WriteRequest, tokens: Tokens): Change {
  const { key, onlyIf } = request;
  // The platform keeps the operator's script with the internal metadata.
  const isInternal = classify(key, []) === 'password' || key === OPERATOR_SCRIPT;
  const map = isInternal ? 'internal' : 'customer';
  const condition = onlyIf === undefined ? {} : { unless: tokenCheck(key, onlyIf, tokens) };
  return request.kind === 'put'
    ? { kind: 'set', map, key, value: request.value, ...condition }
    : { kind: 'remove', map, key, ...condition };
}

function tokenCheck(key: string, expected: string, tokens: Tokens): TokenCheck {
  const renderStored = (value: unknown): Reply =>
    Buffer.isBuffer(value) ? { kind: 'success', text: value } : render(value);
  const absent = tokens.of([tokens.entry(key, { kind: 'notfound' })]);
  return {
    tokenOf: (value) => tokens.of([tokens.entry(key, renderStored(value))]),
    longTokenOf: async (value) => tokens.of([await tokens.longEntry(key, renderStored(value))]),
    refusal: (token) => {
      const isAsExpected = token === (expected === NO_TOKEN ? absent : expected);
      return isAsExpected ? null : `Changed ${token}`;
    },
  };
}

/** P1 to this. */
const DIFFERENCES = 32;
/** Of a PUTIF: its frame and token; and the key's name, in base64 twice. */
const FRAME_BYTES = 160;
const KEY_IN_LINE_BYTES = Math.ceil((MAX_KEY_BYTES * 16) / 9);

/**
 * The JSON that HELLO is answered with: verbs, limits, and by their ids the differences from the platform's agent
 * (src/protocol/README.md).
 * @param limits as configured. `metadataBytes`, `keys`: what a guest can write in all
 */
export function helloText(
  version: string,
  limits: Readonly<Record<'lineBytes' | 'replyBytes' | 'metadataBytes' | 'keys', number>>,
): string {
  const { lineBytes, replyBytes, metadataBytes, keys } = limits;
  // A value is encoded twice, each time by a third longer.
  const inLine = Math.floor(((lineBytes - FRAME_BYTES - KEY_IN_LINE_BYTES) * 9) / 16);
  return JSON.stringify({
    agent: 'mdatad',
    version,
    verbs: VERBS,
    limits: {
      line: lineBytes,
      reply: replyBytes,
      value: Math.max(0, Math.min(inLine, metadataBytes)),
      metadata: metadataBytes,
      keys,
      key: MAX_KEY_BYTES,
      watch_keys: MAX_WATCH_KEYS,
      watch_keys_bytes: MAX_WATCH_KEYS_BYTES,
      watch_seconds: MAX_WATCH_SECONDS,
    },
    differences: Array.from({ length: DIFFERENCES }, (_, at) => `P${at + 1}`),
  });
}
