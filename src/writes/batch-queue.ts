/*
 * The batches of all VMs on their way to the disk or to a program: so many at a time, the others in the
 * order that they came. A backend has one, so that a storm of writes takes a bounded part of the machine.
 */
import * as vasync from 'vasync';
import type { SystemError } from '../lib/errors';
import type { ChangeResult } from '../metadata/vm-data';
import type { Batch } from './backend';

type Results = readonly ChangeResult[];

interface Job {
  readonly batch: Batch;
  readonly resolve: (results: Results) => void;
  readonly reject: (err: SystemError) => void;
}

/** Made with its backend, closed with it. */
export class BatchQueue {
  private readonly queue: vasync.Queue<Job>;

  /**
   * @param most batches that are written at a time
   * @param write writes one of them
   * @param failure what a fault of `write` is told as
   */
  constructor(
    most: number,
    write: (batch: Batch) => Promise<Results>,
    failure: (batch: Batch, err: unknown) => SystemError,
  ) {
    this.queue = vasync.queue<Job>(({ batch, resolve, reject }, done) => {
      void write(batch)
        .then(resolve, (err: unknown) => reject(failure(batch, err)))
        .finally(done);
    }, most);
  }

  /** Resolves when it is written. Rejects with the fault that hit it, as `failure` tells it. */
  write(batch: Batch): Promise<Results> {
    batch.stage('queued');
    return new Promise((resolve, reject) => {
      this.queue.push({ batch, resolve, reject });
    });
  }

  /** Takes nothing new. */
  close(): void {
    this.queue.close();
  }
}
