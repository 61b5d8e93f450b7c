/* Records what a link reports. */
import type { LinkObserver, Refusal } from '../../src/transport/link';
import type { PortObserver } from '../../src/transport/serial-stats';
import type { Reply } from '../../src/protocol/reply';
import type { Request } from '../../src/protocol/request';

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

  info(): void {
    // Nothing is asked about these.
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

/** Records what a serial link reports of its port: the names of the events, and the numbers. */
export class PortEvents implements PortObserver {
  readonly facts: string[] = [];
  readonly firstAnswers: { readonly afterMs: number; readonly bootSeen: boolean }[] = [];
  readonly connects: { readonly afterMs: number; readonly bootSeen: boolean }[] = [];
  readonly aways: number[] = [];
  droppedBytes = 0;

  connected(afterMs: number, bootSeen: boolean): void {
    this.facts.push('connected');
    this.connects.push({ afterMs, bootSeen });
  }

  reconnected(awayMs: number): void {
    this.facts.push('reconnected');
    this.aways.push(awayMs);
  }

  disconnected(): void {
    this.facts.push('disconnected');
  }

  firstAnswered(afterMs: number, bootSeen: boolean): void {
    this.facts.push('first answered');
    this.firstAnswers.push({ afterMs, bootSeen });
  }

  busy(): void {
    this.facts.push('busy');
  }

  dropped(bytes: number): void {
    this.droppedBytes += bytes;
  }

  ended(): void {
    this.facts.push('ended');
  }
}
