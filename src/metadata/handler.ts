/*
 * Answers a request from the VM's data. Pure but for the store that it is given.
 *
 * What always holds:
 * - No request throws out of here and no promise that is returned rejects: a fault of ours is a FAILURE
 *   for that request and is passed to `onFault`.
 * - What is known is answered at once, not by a promise. Only keys with a colon need the VM object (for
 *   its namespaces and properties); all others are answered even if vminfod never answers.
 * - "I do not know yet" is never NOTFOUND: a guest would take it for the key's absence and be set up
 *   wrongly for good.
 * - A refusal comes before any write. Keys arrive trimmed and not empty, and a PUT's key is one that
 *   may be stored: request.ts sees to it.
 */
import type { ByteReply, ChangeCourse, GetReply, Reply } from '../protocol/reply';
import type { DataRequest, WriteRequest } from '../protocol/request';
import {
  classify,
  listNeedsNamespaces,
  lostNamespaces,
  nameList,
  namespacesOf,
  needsNamespaces,
} from './keys';
import { metadataNeedOf, render, sdcValue, WELL_KNOWN_NAMES } from './sdc';
import { NO_TOKEN, type Tokens } from './token';
import {
  UnwantedError,
  type Change,
  type ChangeResult,
  type JsonObject,
  type MetadataNeed,
  type TokenCheck,
  type VmData,
} from './vm-data';
import { replyToGetAll, tokenOf, type WatchedData } from './watch';

export interface AnswerOptions {
  /**
   * Whether a guest may PUT the bare name `operator-script`, which then replaces the operator's own
   * script, as the platform's agent lets it. It may always DELETE it: scripts that remove themselves
   * after their first run are common, and a guest's root can skip the script anyway.
   */
  readonly operatorScriptWritable: boolean;
  /**
   * Whether a PUT of an empty value stores it. Images rely on the platform's refusal: an empty pipeline
   * into `mdata-put` must not leave a key that the next boot takes for a value.
   */
  readonly emptyValuesStored: boolean;
  /** Whether a key with a comma can be removed: the platform's VM tool cannot, our own writer can. */
  readonly commaDeletes: boolean;
  /** Makes the tokens of this node. */
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
/** All keys and values of a shorter metadata file are answered at once; of longer ones a zone's requests take turns. */
const SHORT_FILE_BYTES = 8 * 1024;
/** What such an answer holds for each byte of the file: names as strings, the longest value, JSON, offsets. */
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
    if (err instanceof UnwantedError) {
      return FAULT;
    }
    options.onFault(data.zonename, request, err);
    return FAULT;
  };
  try {
    const bytes = asksForAll(request) ? data.fileBytes() : 0;
    const reply =
      bytes > SHORT_FILE_BYTES
        ? options.withRoom(data.zonename, MEMORY_PER_BYTE * bytes, async () => {
            // One that reads nothing ends at once, and the next one begins then: all that wait, in one iteration.
            await options.tokens.pause();
            if (isWanted?.() === false) {
              throw new UnwantedError();
            }
            return loadAndRespond(data, request, options, isWanted);
          })
        : loadAndRespond(data, request, options, isWanted);
    return reply instanceof Promise ? reply.catch(fault) : reply;
  } catch (err) {
    return fault(err);
  }
}

/** True for what holds all names of a zone while it is answered. */
function asksForAll(request: DataRequest): boolean {
  return request.kind === 'getall' || request.kind === 'watch';
}

function loadAndRespond(
  data: VmData,
  request: DataRequest,
  options: AnswerOptions,
  isWanted?: () => boolean,
): Reply | Promise<Reply> {
  const need = needOf(request);
  const loaded = need === null ? data : data.load({ key: need.key, isWanted });
  return loaded instanceof Promise
    ? loaded.then((vmData) => respondWhenKnown(vmData, data, request, options))
    : respondWhenKnown(loaded, data, request, options);
}

/** @param origin loads what is read besides what `data` was made ready for */
function respondWhenKnown(
  data: VmData,
  origin: VmData,
  request: DataRequest,
  options: AnswerOptions,
): Reply | Promise<Reply> {
  if (!needsVm(data, request)) {
    return respond(data, origin, NO_VM, request, options);
  }
  const known = data.vm();
  if (known !== undefined) {
    return respond(data, origin, known, request, options);
  }
  return data.loaded().then((vm) => {
    return vm === undefined ? NOT_LOADED : respond(data, origin, vm, request, options);
  });
}

/** What a request reads of the metadata; null where that is nothing. */
function needOf(request: DataRequest): MetadataNeed | null {
  switch (request.kind) {
    case 'keys':
    case 'getall':
    case 'watch':
      return { key: null };
    case 'get':
      return needOfKey(request.key);
    case 'hello':
      return null;
    case 'put':
    case 'delete':
      return request.key.startsWith(DOCKER_PREFIX) ? { key: null } : null;
    default: {
      const never: never = request;
      return never;
    }
  }
}

/** What a GET of a key reads of the metadata; null where that is nothing. */
function needOfKey(key: string): MetadataNeed | null {
  return key.startsWith('sdc:') ? metadataNeedOf(key.slice('sdc:'.length)) : { key };
}

function needsVm(data: VmData, request: DataRequest): boolean {
  switch (request.kind) {
    case 'keys':
      return listNeedsNamespaces(data.metadata());
    case 'watch':
      return request.keys?.some(needsNamespaces) ?? listNeedsNamespaces(data.metadata());
    case 'getall':
      return true;
    case 'hello':
      return false;
    default:
      return needsNamespaces(request.key);
  }
}

function respond(
  data: VmData,
  origin: VmData,
  vm: JsonObject,
  request: DataRequest,
  options: AnswerOptions,
): Reply | Promise<Reply> {
  switch (request.kind) {
    case 'get':
      return get(data, vm, request.key);
    case 'keys':
      return nameList(data.metadata(), namespacesOf(vm));
    case 'watch':
      return watch(watchedData(data, origin, vm, options.tokens), request.keys);
    case 'getall': {
      const { replyBytes: bytesMax, tokens } = options;
      const all = watchedData(data, origin, vm, tokens);
      return replyToGetAll(all, { sdcNames: WELL_KNOWN_NAMES, bytesMax });
    }
    case 'hello':
      return { kind: 'success', text: options.hello };
    case 'put':
    case 'delete':
      return write(data, vm, request, options);
    default: {
      const never: never = request;
      return never;
    }
  }
}

/** The current token; whoever asked for it waits until it is another one. */
function watch(data: WatchedData, keys: readonly string[] | null): Reply | Promise<Reply> {
  const success = (text: string): Reply => ({ kind: 'success', text });
  const token = tokenOf(data, keys);
  return token instanceof Promise ? token.then(success) : success(token);
}

/** @param origin loads the values that are read one by one */
function watchedData(data: VmData, origin: VmData, vm: JsonObject, tokens: Tokens): WatchedData {
  const maps = data.metadata();
  const getNow = (key: string): GetReply => get(data, vm, key);
  const getLater = (key: string): GetReply | Promise<GetReply> => {
    const need = needOfKey(key);
    const loaded = need === null ? data : origin.load(need);
    return loaded instanceof Promise
      ? loaded.then((vmData) => get(vmData, vm, key))
      : get(loaded, vm, key);
  };
  return {
    zonename: data.zonename,
    tokens,
    maps,
    namespaces: namespacesOf(vm),
    get: maps.onDisk === undefined ? getNow : getLater,
  };
}

function get(data: VmData, vm: JsonObject, key: string): GetReply {
  const keyClass = classify(key, namespacesOf(vm));
  switch (keyClass.kind) {
    case 'sdc':
      return sdcValue(keyClass.name, vm, data);
    case 'namespaced':
    case 'password':
      return render(data.metadata().internal.get(key));
    case 'plain':
      return render(data.metadata().customer.get(key));
    default: {
      const never: never = keyClass;
      return never;
    }
  }
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
    const change = courseOf(result);
    return result.kind === 'stored'
      ? { kind: 'success', text: 'OK', change }
      : { kind: 'failure', text: result.text, change };
  });
}

function courseOf({ uncharged, limit }: ChangeResult): ChangeCourse {
  return { ...(uncharged && { uncharged }), ...(limit && { limit }) };
}

/** Why a write is refused, as the guest reads it; null where it is tried. */
function refusalOf(
  data: VmData,
  vm: JsonObject,
  request: WriteRequest,
  options: AnswerOptions,
): string | null {
  const { key } = request;
  const namespaces = namespacesOf(vm);
  const keyClass = classify(key, namespaces);
  if (keyClass.kind === 'sdc') {
    return cannotUpdateNamespace('sdc');
  }
  if (keyClass.kind === 'namespaced') {
    return cannotUpdateNamespace(keyClass.namespace);
  }
  if (key.startsWith(DOCKER_PREFIX) && isDocker(data, vm, namespaces)) {
    return cannotUpdateNamespace('docker');
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
 * A docker VM that lost its list of namespaces (a migration can) would take `docker:` keys for the
 * guest's own and let it write what tools trust. On all other VMs `docker:` is a name like any other.
 */
function isDocker(data: VmData, vm: JsonObject, namespaces: readonly string[]): boolean {
  return (
    vm.docker === true || lostNamespaces(data.metadata().internal, namespaces).includes('docker')
  );
}

function cannotUpdateNamespace(namespace: string): string {
  return `Cannot update the "${namespace}" Namespace.`;
}

function changeOf(request: WriteRequest, tokens: Tokens): Change {
  const { key, onlyIf } = request;
  // The platform keeps the operator's script with the internal metadata.
  const isInternal = classify(key, []).kind === 'password' || key === OPERATOR_SCRIPT;
  const map = isInternal ? 'internal' : 'customer';
  const condition = onlyIf === undefined ? {} : { unless: tokenCheck(key, onlyIf, tokens) };
  return request.kind === 'put'
    ? { kind: 'set', map, key, value: request.value, ...condition }
    : { kind: 'remove', map, key, ...condition };
}

/** The answer to a GET of a value as the writer has it. */
function renderStored(value: unknown): GetReply | ByteReply {
  return Buffer.isBuffer(value) ? { kind: 'bytes', text: value } : render(value);
}

function tokenCheck(key: string, expected: string, tokens: Tokens): TokenCheck {
  const absent = tokens.ofOne(key, render(undefined));
  return {
    tokenOf: (value) => tokens.ofOne(key, renderStored(value)),
    longTokenOf: (value) => tokens.ofLongOne(key, renderStored(value)),
    refusal: (token) => {
      const isAsExpected = token === (expected === NO_TOKEN ? absent : expected);
      return isAsExpected ? null : `Changed ${token}`;
    },
  };
}
