/*
 * The reply to one parsed request, as a string of bytes: by the handler from a VM in memory, or by the protocol alone.
 */
import assert from 'node:assert';
import { answer, type AnswerOptions } from '../../src/metadata/handler';
import { encodeReply, replyToLine } from '../../src/protocol/reply';
import type { Request } from '../../src/protocol/request';
import { VERB_OPTIONS } from './verb-options';
import type { MemoryVm } from './vm-data';

/** As the configuration has them by default; a fault of the handler fails the test. */
export const ANSWER_OPTIONS: AnswerOptions = {
  operatorScriptWritable: false,
  emptyValuesStored: false,
  ...VERB_OPTIONS,
  commaDeletes: true,
  onFault: (_zonename, _request, err) => assert.fail(String(err)),
};

/** @returns what the guest reads; empty for silence */
export async function replyOf(vm: MemoryVm, request: Request): Promise<string> {
  switch (request.kind) {
    case 'get':
    case 'keys':
    case 'watch':
    case 'getall':
    case 'hello':
    case 'put':
    case 'delete':
      return encodeReply(request.wire, await answer(vm, request, ANSWER_OPTIONS)).toString(
        'latin1',
      );
    default:
      return replyToLine(request)?.toString('latin1') ?? '';
  }
}
