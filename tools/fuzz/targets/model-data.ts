/*
 * A model's VM in the store's place, and the handler over it: what the targets `answer` and `tokens` ask.
 */
import { answer, type AnswerOptions } from '../../../src/metadata/handler';
import { Tokens } from '../../../src/metadata/watch';
import type {
  Change,
  ChangeResult,
  JsonObject,
  MetadataUse,
  VmData,
} from '../../../src/metadata/vm-data';
import type { Reply } from '../../../src/protocol/reply';
import type { DataRequest } from '../../../src/protocol/request';
import type { ModelVm } from '../model/keys';
import { Wrong } from '../target';

const OPTIONS: AnswerOptions = {
  operatorScriptWritable: false,
  emptyValuesStored: false,
  commaDeletes: true,
  tokens: new Tokens(Buffer.alloc(32), () => Promise.resolve()),
  withRoom: (_zonename, _bytes, work) => work(),
  replyBytes: 4 * 1024 * 1024,
  hello: '',
  onFault: (_zonename, _request, err) => {
    throw new Wrong('the handler has no fault', { err: String(err) });
  },
};

/** What a request changes is kept, not executed. */
export class ModelData implements VmData {
  readonly zonename = 'zone';
  /** By the last request. */
  asked: Change | null = null;

  constructor(private readonly data: ModelVm) {}

  answer(request: DataRequest): Reply | Promise<Reply> {
    this.asked = null;
    return answer(this, request, OPTIONS);
  }

  metadata(): Pick<ModelVm, 'customer' | 'internal'> {
    // As of a reading of its own: what is computed from it is kept with it.
    return { customer: this.data.customer, internal: this.data.internal };
  }

  load(): VmData {
    return this;
  }

  fileBytes(): number {
    return 0;
  }

  use(): MetadataUse {
    return { bytes: 0, bytesMax: 0, keys: 0, keysMax: 0 };
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
    this.asked = change;
    return Promise.resolve({ kind: 'stored' });
  }
}
