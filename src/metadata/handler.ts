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
import type { ChangeCourse, Reply } from '../protocol/reply';
import type { DataRequest } from '../protocol/request';
import {
  classify,
  listNeedsNamespaces,
  lostNamespaces,
  nameList,
  namespacesOf,
  needsNamespaces,
} from './keys';
import { metadataNeedOf, render, sdcValue } from './sdc';
import type { Change, ChangeResult, JsonObject, MetadataNeed, VmData } from './vm-data';

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
  /** Called with a fault of ours that a request met. The error may name the VM's files, never a value. */
  readonly onFault: (zonename: string, request: DataRequest, err: unknown) => void;
}

type WriteRequest = Extract<DataRequest, { readonly kind: 'put' | 'delete' }>;

/** For a request of a zone that is gone from the node. */
export const VM_NOT_FOUND: Reply = { kind: 'failure', text: 'VM not found' };
/** To a change by a peer that may only read. */
export const READ_ONLY: Reply = { kind: 'failure', text: 'Permission denied.' };

const NOT_LOADED: Reply = { kind: 'failure', text: 'VM data is not available yet.' };
const FAULT: Reply = { kind: 'failure', text: 'Internal error.' };
const OPERATOR_SCRIPT = 'operator-script';
/** For requests that need nothing of the VM object. */
const NO_VM: JsonObject = {};

/** Answers a request for the VM whose data is given. Never throws; a promise never rejects. */
export function answer(
  data: VmData,
  request: DataRequest,
  options: AnswerOptions,
): Reply | Promise<Reply> {
  const fault = (err: unknown): Reply => {
    options.onFault(data.zonename, request, err);
    return FAULT;
  };
  try {
    const need = needOf(request);
    const loaded = need === null ? data : data.load(need);
    const reply =
      loaded instanceof Promise
        ? loaded.then((vmData) => respondWhenKnown(vmData, request, options))
        : respondWhenKnown(loaded, request, options);
    return reply instanceof Promise ? reply.catch(fault) : reply;
  } catch (err) {
    return fault(err);
  }
}

function respondWhenKnown(
  data: VmData,
  request: DataRequest,
  options: AnswerOptions,
): Reply | Promise<Reply> {
  if (!needsVm(data, request)) {
    return respond(data, NO_VM, request, options);
  }
  const known = data.vm();
  if (known !== undefined) {
    return respond(data, known, request, options);
  }
  return data.loaded().then((vm) => {
    return vm === undefined ? NOT_LOADED : respond(data, vm, request, options);
  });
}

/** What a request reads of the metadata; null where that is nothing. */
function needOf(request: DataRequest): MetadataNeed | null {
  switch (request.kind) {
    case 'keys':
      return { key: null };
    case 'get': {
      const { key } = request;
      return key.startsWith('sdc:') ? metadataNeedOf(key.slice('sdc:'.length)) : { key };
    }
    case 'put':
    case 'delete':
      return request.key.startsWith(DOCKER_PREFIX) ? { key: null } : null;
    default: {
      const never: never = request;
      return never;
    }
  }
}

function needsVm(data: VmData, request: DataRequest): boolean {
  if (request.kind !== 'keys') {
    return needsNamespaces(request.key);
  }
  return listNeedsNamespaces(data.metadata());
}

function respond(
  data: VmData,
  vm: JsonObject,
  request: DataRequest,
  options: AnswerOptions,
): Reply | Promise<Reply> {
  switch (request.kind) {
    case 'get':
      return get(data, vm, request.key);
    case 'keys':
      return nameList(data.metadata(), namespacesOf(vm));
    case 'put':
    case 'delete':
      return write(data, vm, request, options);
    default: {
      const never: never = request;
      return never;
    }
  }
}

function get(data: VmData, vm: JsonObject, key: string): Reply {
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
  return data.change(changeOf(request)).then((result) => {
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
  return request.value === '' && !options.emptyValuesStored ? 'Empty values are not stored.' : null;
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

function changeOf(request: WriteRequest): Change {
  const { key } = request;
  // The platform keeps the operator's script with the internal metadata.
  const isInternal = classify(key, []).kind === 'password' || key === OPERATOR_SCRIPT;
  const map = isInternal ? 'internal' : 'customer';
  return request.kind === 'put'
    ? { kind: 'set', map, key, value: request.value }
    : { kind: 'remove', map, key };
}
