/* Records what a link reports. */
import type { LinkObserver, Refusal } from '../../src/transport/link';
import type { Reply } from '../../src/protocol/reply';
import type { Request } from '../../src/protocol/request';

/** A log record of level info. */
export interface LogRecord {
  readonly msg: string;
  readonly [field: string]: unknown;
}

export class Recorder implements LinkObserver {
  opens = 0;
  closes = 0;
  receivedBytes = 0;
  sentBytes = 0;
  readonly answers: {
    readonly kind: Request['kind'];
    readonly outcome: Reply['kind'] | null;
    readonly elapsedMs: number;
  }[] = [];
  readonly refusals: Refusal[] = [];
  readonly warnings: string[] = [];
  readonly records: LogRecord[] = [];

  opened(): void {
    this.opens++;
  }

  closed(): void {
    this.closes++;
  }

  received(bytes: number): void {
    this.receivedBytes += bytes;
  }

  sent(bytes: number): void {
    this.sentBytes += bytes;
  }

  answered(_origin: unknown, request: Request, reply: Reply | null, elapsedMs: number): void {
    this.answers.push({ kind: request.kind, outcome: reply?.kind ?? null, elapsedMs });
  }

  refused(reason: Refusal): void {
    this.refusals.push(reason);
  }

  /** As a logger: the warnings. */
  warn(_fields: unknown, msg: string): void {
    this.warnings.push(msg);
  }

  info(fields: object, msg: string): void {
    this.records.push({ ...fields, msg });
  }

  /** What became of the writes that were reported to it, in order. */
  writes(): (Reply['kind'] | null)[] {
    return this.answers
      .filter(({ kind }) => kind === 'put' || kind === 'delete')
      .map(({ outcome }) => outcome);
  }

  count(reason: Refusal): number {
    return this.refusals.filter((one) => one === reason).length;
  }
}
