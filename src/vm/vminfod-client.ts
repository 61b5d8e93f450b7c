/*
 * vminfod as a feed that comes and goes.
 *
 *                   start
 *                     |
 *                     v       ready line
 *               connecting ----------------> following
 *                 ^    |                       |
 *    back-off over|    | failed                | ended, or no longer to be trusted
 *                 |    v                       |
 *                 +-- down <-------------------+            any --stop--> stopped
 *
 * Nobody waits for it: what it told last stays in the table and is served while it is down. A new ready
 * line is compared with the table, so an outage looks to everyone as if its events had come late. One
 * warning an outage, one word when it is over.
 */
import { codeOf, messageOf, systemError } from '../lib/errors';
import { Fsm, type StateHandle } from '../lib/fsm';
import type { Logger } from '../log';
import { followEvents, readVm, type StreamOptions } from './event-stream';
import { getText } from './vminfod-http';
import { recordOf } from './vm-cache';

export type VminfodState = 'connecting' | 'following' | 'down' | 'stopped';

export interface VminfodStatus {
  readonly state: VminfodState;
  /** When it came into this state, ms since 1970. */
  readonly since: number;
  /** When the outage that lasts began, ms since 1970; null: there is none. */
  readonly outageSince: number | null;
  /** Streams that came up after the first one. */
  readonly reconnects: number;
  /** Why the last stream ended or the last attempt failed. */
  readonly lastError: string | null;
}

const FIRST_DELAY_MS = 100;
/**
 * Longest pause between two attempts, jitter included. What changed in an outage has to be right 5 s after
 * its end, however long it took: the rest of that time is for the ready line of a full node.
 */
const MAX_DELAY_MS = 2000;
/** A stream that broke sooner than this did not end the outage it came after. */
const STEADY_MS = 5000;
const LOOKUP_TIMEOUT_MS = 4000;
/** Questions about single VMs at once; who finds no room is told by the stream, or asks again. */
const MAX_LOOKUPS = 16;

/** The feed of one table. Started once; `stop` closes its connection for good. */
export class Vminfod {
  private readonly options: StreamOptions;
  private readonly log: Logger;
  private readonly fsm: Fsm<VminfodState>;
  private readonly lookups = new Map<string, Promise<void>>();
  private readonly stopping = new AbortController();
  private stream: AbortController | null = null;
  private ended: Promise<void> = Promise.resolve();
  private failures = 0;
  private streams = 0;
  private lastError: string | null = null;
  private outageSince: number | null = null;

  constructor(options: StreamOptions, log: Logger) {
    this.options = options;
    this.log = log.child({ component: 'vminfod', url: options.url }, true);
    this.fsm = new Fsm<VminfodState>(
      'vminfod',
      {
        connecting: {
          next: ['following', 'down', 'stopped'],
          enter: (state) => this.connecting(state),
        },
        following: { next: ['down', 'stopped'], enter: () => this.following() },
        down: { next: ['connecting', 'stopped'], enter: (state) => this.down(state) },
        stopped: { next: [], enter: () => undefined },
      },
      'connecting',
      undefined,
    );
  }

  start(): void {
    this.fsm.start();
  }

  /** Idempotent. Resolves when the connection is closed. */
  async stop(): Promise<void> {
    if (this.fsm.state !== 'stopped') {
      this.fsm.goto('stopped');
      this.stopping.abort();
      this.stream?.abort();
    }
    await this.ended;
    await Promise.all(this.lookups.values());
  }

  status(): VminfodStatus {
    return {
      state: this.fsm.state,
      since: this.fsm.history().at(-1)?.since ?? 0,
      outageSince: this.outageSince,
      reconnects: Math.max(0, this.streams - 1),
      lastError: this.lastError,
    };
  }

  /**
   * Asks for one VM that the stream has not shown, and puts it into the table if the stream still has
   * not by then. One question at a time for a VM. Never rejects: who waits for the VM watches the table.
   */
  lookUp(zonename: string): Promise<void> {
    const running = this.lookups.get(zonename);
    if (running !== undefined) {
      return running;
    }
    if (this.lookups.size >= MAX_LOOKUPS || this.stopping.signal.aborted) {
      return Promise.resolve();
    }
    const lookup = this.askFor(zonename)
      .catch((err: unknown) => {
        this.log.debug({ zonename, code: codeOf(err) }, 'vminfod does not tell this VM');
      })
      .finally(() => this.lookups.delete(zonename));
    this.lookups.set(zonename, lookup);
    return lookup;
  }

  private async askFor(zonename: string): Promise<void> {
    const { url, table, observe } = this.options;
    const timeout = AbortSignal.any([this.stopping.signal, AbortSignal.timeout(LOOKUP_TIMEOUT_MS)]);
    const seen = { change: false };
    const watch = (change: { readonly zonename: string }): void => {
      seen.change ||= change.zonename === zonename;
    };
    table.on('changed', watch);
    try {
      const path = `/vms/${encodeURIComponent(zonename)}`;
      const told = readVm(Buffer.from(await getText(url, path, timeout)));
      const record = told === undefined ? undefined : recordOf(told.vm);
      // The stream's word is newer, even when it was that the VM is gone.
      if (!seen.change && told !== undefined && record?.facts.zonename === zonename) {
        table.put(record);
        observe(zonename, told.vm, told.metadata);
      }
    } finally {
      table.off('changed', watch);
    }
  }

  private connecting(state: StateHandle<VminfodState>): void {
    const stream = new AbortController();
    this.stream = stream;
    const following = followEvents(this.options, stream.signal, () => state.goto('following'));
    this.ended = following.catch((err: unknown) => this.streamEnded(stream, err));
  }

  private following(): void {
    this.streams++;
    const outageSince = this.outageSince;
    const vms = this.options.table.size;
    if (outageSince === null) {
      this.log.info({ vms }, 'following vminfod');
    } else {
      this.outageSince = null;
      this.log.info({ vms, outage_ms: Date.now() - outageSince }, 'following vminfod again');
    }
  }

  private streamEnded(stream: AbortController, err: unknown): void {
    // Whatever else the stream holds (its socket, its request) goes with it.
    stream.abort();
    if (this.fsm.state === 'stopped') {
      return;
    }
    const { state, since } = this.status();
    const steady = state === 'following' && Date.now() - since >= STEADY_MS;
    const ended = state === 'following' && codeOf(err) !== 'EBADMSG';
    this.failures = steady || ended ? 1 : this.failures + 1;
    this.lastError = messageOf(systemError('GET /events', this.options.url, err));
    if (this.outageSince === null) {
      this.outageSince = Date.now();
      const known = this.options.table.size;
      this.log.warn({ err, vms: known }, 'vminfod is not there, serving what it told last');
    }
    this.fsm.goto('down');
  }

  private down(state: StateHandle<VminfodState>): void {
    state.timeout(retryDelayMs(this.failures), () => state.goto('connecting'));
  }
}

/**
 * The pause before the next attempt, ms.
 * @param failures in a row, 1 and more
 * @param chance of the jitter, from 0 to below 1
 */
export function retryDelayMs(failures: number, chance = Math.random()): number {
  // 10 doublings are beyond the longest delay; the exponent itself must not grow for days.
  const doublings = Math.min(failures - 1, 10);
  const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** doublings);
  return delay * (0.5 + chance / 2);
}
