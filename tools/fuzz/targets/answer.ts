/*
 * Target `answer`: any request over any VM gets the answer that the key rules say, and no secret.
 *
 * Input: decisions that build a VM object and its maps, with nulls, wrong types, names of the object
 * prototype and dots in all places, and then a few requests. Checked against the model; values that no
 * guest may see are planted in all places where they can be.
 */
import { answer as answerRequest } from '../../../src/metadata/handler';
import type { Change, ChangeResult, VmData } from '../../../src/metadata/handler';
import type { Reply } from '../../../src/protocol/reply';
import type { DataRequest, Wire } from '../../../src/protocol/request';
import type { JsonObject } from '../../../src/vm/vm';
import { magnitude, nameNumber } from '../features';
import type { Features } from '../features';
import { get, keys, write } from '../model/keys';
import type { ModelVm } from '../model/keys';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { Choices } from './choices';

const SECRET = 'S3CR3T-canary';
const MEMBERS: readonly [string, ...string[]] = [
  'uuid',
  'nics',
  'resolvers',
  'tmpfs',
  'internal_metadata_namespaces',
  'disks',
  'pci_devices',
  'docker',
  'device',
  'quota',
  'a.b',
  'tags',
  'routes',
  'customer_metadata',
  'constructor',
  '__proto__',
  'length',
  '',
];
const KEYS: readonly [string, ...string[]] = [
  'motd',
  'root_pw',
  'docker:cmd',
  'docker:x_pw',
  'x:y',
  'x:y_pw',
  'sdc:uuid',
  'operator-script',
  'sdc:volumes',
  '__proto__',
  'constructor',
  'toString',
  'a.b',
  'two words',
  'a,b',
  'a\nb',
  '0',
  '10',
  'sdc',
  'x',
  ':',
  '',
];
const NAMES: readonly [string, ...string[]] = [
  'nics',
  'resolvers',
  'tmpfs',
  'operator-script',
  'volumes',
  'tags.a.b',
  'tags',
  'tags.__proto__',
  'internal_metadata',
  'internal_metadata.root_pw',
  'internal_metadata.hidden',
  'vnc_password',
  'spice_opts',
  'qemu_extra_opts',
  'customer_metadata.motd',
  'customer_metadata.root_pw',
  'customer_metadata',
  'routes.x',
  'routes.constructor',
  'nics.0.ip',
  'nics.0.constructor',
  'nics.00.ip',
  'nics.1.ip.x',
  'nics.0',
  'disks.0.path',
  'disks.-1.path',
  'resolvers.0',
  'resolvers.',
  'resolvers.0x1',
  'resolvers.length',
  'internal_metadata_namespaces.0',
  'uuid',
  'a.b',
  'constructor',
  '__proto__',
  '',
  '.',
  '..',
];
const NAMESPACES: readonly [string, ...string[]] = ['docker', 'x', '', 'sdc', 'a.b', 'root_pw'];
const WIRES: readonly [Wire, Wire] = [{ version: 1 }, { version: 2, id: '1a2b3c4d' }];
const MOST_MEMBERS = 12;
const MOST_REQUESTS = 4;

export const answer: Target = {
  name: 'answer',
  words: ['\0', '\x01', '\x02\x03', '\x04\x04\x04', '\x0f', '\xff'],

  generate(random, draft) {
    const length = random.mostlySmall(160);
    const narrow = random.oneIn(2);
    for (let i = 0; i < length; i++) {
      draft.byte(random.below(narrow ? 40 : 256));
    }
  },

  run(input, features) {
    const choices = new Choices(input);
    const data = buildVm(choices);
    const memory = new Memory(data);
    for (let i = 0; i < MOST_REQUESTS && (i === 0 || !choices.over); i++) {
      const request = buildRequest(choices);
      memory.change1 = null;
      const options = {
        operatorScriptWritable: false,
        commaDeletes: true,
        onFault: (_zonename: string, _: DataRequest, err: unknown) => {
          throw new Wrong('the handler has no fault', { err: String(err) });
        },
      };
      const reply = answerRequest(memory, request, options);
      const told = reply instanceof Promise ? memory.told() : textOf(reply);
      same('the answer', told, expected(data, request));
      if (told.includes(SECRET)) {
        throw new Wrong('no secret is told', { told });
      }
      reach(features, request, told);
    }
  },
};

function reach(features: Features, request: DataRequest, told: string): void {
  const key = 'key' in request ? request.key : '';
  const name = key.startsWith('sdc:') ? 100 + NAMES.indexOf(key.slice(4)) : KEYS.indexOf(key);
  const kind = nameNumber(request.kind);
  const sign = told.charCodeAt(0);
  features.reach(60, kind, name, sign);
  features.reach(61, kind, sign, magnitude(told.length));
  features.reach(62, kind, nameNumber(/^!.{0,24}|^w \w+ \w+/.exec(told)?.[0] ?? ''));
}

/** The store's place: what a request changes is kept, not carried out. */
class Memory implements VmData {
  readonly zonename = 'zone';
  change1: Change | null = null;
  private readonly data: ModelVm;

  constructor(data: ModelVm) {
    this.data = data;
  }

  metadata(): Pick<ModelVm, 'customer' | 'internal'> {
    return this.data;
  }

  tags(): ReadonlyMap<string, unknown> {
    return this.data.tags;
  }

  routes(): ReadonlyMap<string, unknown> {
    return this.data.routes;
  }

  vm(): JsonObject {
    return this.data.vm;
  }

  loaded(): Promise<JsonObject> {
    throw new Wrong('nobody waits for what is there');
  }

  change(change: Change): Promise<ChangeResult> {
    this.change1 = change;
    return Promise.resolve({ kind: 'stored' });
  }

  told(): string {
    const change = this.change1;
    if (change === null) {
      return 'a promise without a change';
    }
    const { map, key } = change;
    return change.kind === 'set'
      ? `w put ${map} ${key}\0${change.value}`
      : `w delete ${map} ${key}\0`;
  }
}

function textOf(reply: Reply): string {
  switch (reply.kind) {
    case 'success':
      return `+${reply.text}`;
    case 'notfound':
      return '-';
    case 'failure':
      return `!${reply.text}`;
  }
}

function expected(data: ModelVm, request: DataRequest): string {
  switch (request.kind) {
    case 'get':
      return get(data, request.key);
    case 'keys':
      return keys(data);
    case 'put':
      return write(data, 'put', request.key, request.value);
    case 'delete':
      return write(data, 'delete', request.key, '');
  }
}

function buildRequest(choices: Choices): DataRequest {
  const wire = choices.pick(WIRES);
  const kind = choices.below(8);
  const key = buildKey(choices);
  switch (kind) {
    case 0:
      return { kind: 'keys', wire };
    case 1:
      return { kind: 'put', wire, key, value: choices.text() };
    case 2:
      return { kind: 'delete', wire, key };
    default:
      return { kind: 'get', wire, key };
  }
}

function buildKey(choices: Choices): string {
  switch (choices.below(4)) {
    case 0:
      return choices.pick(KEYS);
    case 1:
      return choices.text();
    default:
      return `sdc:${choices.pick(NAMES)}`;
  }
}

function buildVm(choices: Choices): ModelVm {
  const members: [string, unknown][] = [];
  const count = choices.below(MOST_MEMBERS);
  for (let i = 0; i < count; i++) {
    const name = choices.below(8) === 7 ? choices.text() : choices.pick(MEMBERS);
    members.push([name, memberValue(choices, name)]);
  }
  const vm = Object.fromEntries([
    ...members.filter(([name]) => !['routes', 'datasets', 'delegate_dataset'].includes(name)),
    ['vnc_password', SECRET],
    ['spice_opts', SECRET],
    ['qemu_extra_opts', SECRET],
    ['internal_metadata', { hidden: SECRET, root_pw: SECRET }],
  ]);
  const internal = buildMap(choices);
  internal.set('hidden', SECRET);
  return {
    vm,
    customer: buildMap(choices),
    internal,
    tags: buildMap(choices),
    routes: buildMap(choices),
  };
}

function memberValue(choices: Choices, name: string): unknown {
  if (choices.below(3) === 0) {
    return oddValue(choices);
  }
  switch (name) {
    case 'internal_metadata_namespaces':
      return [choices.pick(NAMESPACES), choices.pick(NAMESPACES), 7, null];
    case 'nics':
    case 'disks':
    case 'pci_devices':
      return [{ ip: choices.text(), path: null, mac: 7 }, oddValue(choices), { ips: [] }];
    case 'resolvers':
      return ['8.8.8.8', oddValue(choices)];
    case 'docker':
      return true;
    default:
      return choices.text();
  }
}

function buildMap(choices: Choices): Map<string, unknown> {
  const map = new Map<string, unknown>();
  const count = choices.below(5);
  for (let i = 0; i < count; i++) {
    const key = choices.below(4) === 3 ? choices.text() : choices.pick(KEYS);
    map.set(key, choices.below(3) === 0 ? oddValue(choices) : choices.text());
  }
  return map;
}

function oddValue(choices: Choices): unknown {
  switch (choices.below(12)) {
    case 0:
      return null;
    case 1:
      return true;
    case 2:
      return false;
    case 3:
      return 0;
    case 4:
      return -1.5e300;
    case 5:
      return [];
    case 6:
      return {};
    case 7:
      return [null];
    case 8:
      return [7];
    case 9:
      return { length: 1, '0': 'x' };
    case 10:
      return '';
    default:
      return choices.text();
  }
}
