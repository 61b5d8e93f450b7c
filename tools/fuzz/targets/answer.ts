/*
 * Target `answer`: any request over any VM gets the answer that the key rules say, and no secret.
 *
 * Input: decisions that build a VM object and its maps, and then a few requests (answer-input.ts).
 * Checked against the model.
 */
import type { Change } from '../../../src/metadata/vm-data';
import type { Reply } from '../../../src/protocol/reply';
import type { DataRequest } from '../../../src/protocol/request';
import { magnitude, nameNumber } from '../features';
import type { Features } from '../features';
import { get, keys, write } from '../model/keys';
import type { ModelVm } from '../model/keys';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { buildRequest, buildVm, KEYS, NAMES, SECRET } from './answer-input';
import { Choices } from './choices';
import { ModelData } from './model-data';

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
    const memory = new ModelData(data);
    for (let i = 0; i < MOST_REQUESTS && (i === 0 || !choices.over); i++) {
      const request = buildRequest(choices);
      const reply = memory.answer(request);
      const actual = reply instanceof Promise ? outcomeOf(memory.asked) : textOf(reply);
      same('the answer', actual, expected(data, request));
      if (actual.includes(SECRET)) {
        throw new Wrong('no secret is in an answer', { actual });
      }
      reach(features, request, actual);
    }
  },
};

function reach(features: Features, request: DataRequest, actual: string): void {
  const key = 'key' in request ? request.key : '';
  const name = key.startsWith('sdc:') ? 100 + NAMES.indexOf(key.slice(4)) : KEYS.indexOf(key);
  const kind = nameNumber(request.kind);
  const sign = actual.charCodeAt(0);
  features.reach(60, kind, name, sign);
  features.reach(61, kind, sign, magnitude(actual.length));
  features.reach(62, kind, nameNumber(/^!.{0,24}|^w \w+ \w+/.exec(actual)?.[0] ?? ''));
}

function outcomeOf(change: Change | null): string {
  if (change === null) {
    return 'a promise without a change';
  }
  const { map, key } = change;
  return change.kind === 'set'
    ? `w put ${map} ${key}\0${change.value.toString()}`
    : `w delete ${map} ${key}\0`;
}

function textOf(reply: Reply): string {
  switch (reply.kind) {
    case 'success':
      return `+${reply.text.toString()}`;
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
      return write(data, 'put', request.key, request.value.toString());
    case 'delete':
      return write(data, 'delete', request.key, '');
    case 'watch':
    case 'getall':
    case 'hello':
      throw new Wrong('the target `tokens` asks these', { kind: request.kind });
  }
}
