/*
 * Writes metadata through `vmadm update`, for operators who want the platform's own tool to do it.
 *
 * Changes that wait go into one payload on its stdin. No update is killed for the time that it takes: whoever waits for
 * it is answered in time by queue.ts, and a repetition joins it. Updates of different VMs run side by side,
 * a bounded number at a time. The payload is in the update's own log on the platform; none of it is in
 * ours.
 */
import { randomUUID } from 'node:crypto';
import { SystemError, systemError } from '../lib/errors';
import { afterPolling } from '../lib/scheduler';
import type { ChangeResult } from '../metadata/vm-data';
import { run } from '../platform/exec';
import type { ConfigFiles } from '../vm/config-files';
import type { MetadataLimits, WriteTarget } from '../vm/store';
import { currentOf, openMetadata } from './metadata-file';
import { planChanges, type Edits, type MapEdits } from './plan';
import { BatchLimit, type Backend, type Batch } from './queue';

/** Each is a node process of its own, of some 60 MiB and a second of CPU; one that hangs keeps its worker. */
const CONCURRENT_UPDATES = 16;

/** The backend of `writer: "vmadm"`. One serves all VMs. No key that it removes has a comma: the tool takes lists. */
export class VmadmWriter implements Backend {
  private readonly workers = new BatchLimit(CONCURRENT_UPDATES);

  /**
   * @param vmadm host path of the program
   * @param files the store's, so that files that are known need not be read
   */
  constructor(
    private readonly vmadm: string,
    readonly limits: MetadataLimits,
    private readonly files: ConfigFiles,
  ) {}

  async commit(target: WriteTarget, batch: Batch): Promise<readonly ChangeResult[]> {
    // A run of the tool takes so long that it is worth waiting for what was sent together.
    await afterPolling();
    try {
      return await this.workers.run(batch, () => this.update(target, batch));
    } catch (err) {
      throw systemError('update', target.uuid, err);
    }
  }

  stop(): Promise<void> {
    // It holds no lock, and has no timer.
    return Promise.resolve();
  }

  private async update(target: WriteTarget, batch: Batch): Promise<readonly ChangeResult[]> {
    const changes = batch.take();
    if (changes.length === 0) {
      return [];
    }
    batch.stage = 'writing';
    const file = await openMetadata(this.files, target.directory);
    const current = file && (await currentOf(this.files, target.directory, file, changes));
    if (current === undefined) {
      throw new SystemError('read', target.directory, 'EAGAIN', 'changed while it was read');
    }
    const plan = planChanges(changes, current, this.limits);
    if (!plan.empty) {
      const requestId = randomUUID();
      target.log.debug({ req_id: requestId, changes: changes.length }, 'running vmadm update');
      await run([this.vmadm, 'update', target.uuid], {
        stdin: JSON.stringify(payloadOf(plan)),
        env: { REQ_ID: requestId, VMADM_IDENT: 'mdatad' },
        secret: true,
      });
    }
    return plan.results;
  }
}

function payloadOf(edits: MapEdits): object {
  return {
    ...partOf('customer_metadata', edits.customer),
    ...partOf('internal_metadata', edits.internal),
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
