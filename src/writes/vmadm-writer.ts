/*
 * Writes metadata through `vmadm update`, for operators who want the platform's own tool to do it.
 *
 * Changes that wait go into one payload on its stdin. A running update is never killed: whoever waits for
 * it is answered in time by queue.ts, and a repetition joins it. Updates of different VMs run side by side,
 * a bounded number at a time. The payload is in the update's own log on the platform; none of it is in
 * ours.
 */
import { randomUUID } from 'node:crypto';
import { SystemError, systemError } from '../lib/errors';
import { afterPolling } from '../lib/scheduler';
import type { ChangeResult } from '../metadata/vm-data';
import { run } from '../platform/exec';
import { ConfigFiles } from '../vm/config-files';
import type { MetadataLimits } from '../vm/store';
import { BatchLimit, type Backend, type Batch } from './batch';
import { currentOf, openMetadata } from './metadata-file';
import { DEFAULT_METADATA_LIMITS, planChanges, type Edits, type Plan } from './plan';

/** The tool takes removals as lists, and no commas in them. */
const COMMA: ChangeResult = {
  kind: 'failed',
  text: 'Cannot delete a key that contains a comma.',
};

/** Each is a node process of its own, of some 60 MiB and a second of CPU; one that hangs keeps its worker. */
const CONCURRENT_UPDATES = 16;

export interface VmadmWriterOptions {
  /** Host path of the program. */
  readonly vmadm: string;
  readonly limits?: MetadataLimits;
  /** The store's, so that files that are known need not be read. */
  readonly files?: ConfigFiles;
}

/** The backend of `writer: "vmadm"`. One serves all VMs. */
export class VmadmWriter implements Backend {
  readonly limits: MetadataLimits;
  private readonly workers = new BatchLimit(CONCURRENT_UPDATES);
  private readonly files: ConfigFiles;

  constructor(private readonly options: VmadmWriterOptions) {
    this.files = options.files ?? new ConfigFiles();
    this.limits = options.limits ?? DEFAULT_METADATA_LIMITS;
  }

  async commit(batch: Batch): Promise<readonly ChangeResult[]> {
    // A run of the tool takes so long that it is worth waiting for what was sent together.
    await afterPolling();
    try {
      return await this.workers.run(batch, () => this.update(batch));
    } catch (err) {
      throw systemError('update', batch.target.uuid, err);
    }
  }

  stop(): Promise<void> {
    // It holds no lock, and has no timer.
    return Promise.resolve();
  }

  private async update(batch: Batch): Promise<readonly ChangeResult[]> {
    const { target } = batch;
    const changes = batch.take();
    if (changes.length === 0) {
      return [];
    }
    batch.stage('writing');
    const hasComma = changes.map((change) => change.kind === 'remove' && change.key.includes(','));
    const allowed = changes.filter((_, index) => hasComma[index] !== true);
    const file = await openMetadata(this.files, target.directory);
    const current = file && (await currentOf(this.files, target.directory, file, allowed));
    if (current === undefined) {
      throw new SystemError('read', target.directory, 'EAGAIN', 'changed while it was read');
    }
    const plan = planChanges(allowed, current, this.limits);
    if (!plan.empty) {
      const requestId = randomUUID();
      target.log.debug({ req_id: requestId, changes: allowed.length }, 'running vmadm update');
      await run([this.options.vmadm, 'update', target.uuid], {
        stdin: JSON.stringify(payloadOf(plan)),
        env: { REQ_ID: requestId, VMADM_IDENT: 'mdatad' },
        secret: true,
      });
    }
    const results = [...plan.results];
    return hasComma.map((comma) => (comma ? COMMA : (results.shift() ?? COMMA)));
  }
}

function payloadOf(plan: Pick<Plan, 'customer' | 'internal'>): object {
  return {
    ...partOf('customer_metadata', plan.customer),
    ...partOf('internal_metadata', plan.internal),
  };
}

function partOf(name: string, edits: Edits): object {
  const set = [...edits].flatMap(([key, value]) =>
    value === undefined ? [] : [[key, value.toString()] as const],
  );
  const removed = [...edits].filter(([, value]) => value === undefined).map(([key]) => key);
  return {
    ...(set.length > 0 ? { [`set_${name}`]: Object.fromEntries(set) } : {}),
    ...(removed.length > 0 ? { [`remove_${name}`]: removed } : {}),
  };
}
