/*
 * Connections over real sockets, whose handler, clock and scheduler are a test's.
 */
import type { Socket } from 'node:net';
import { setImmediate as nextIteration } from 'node:timers/promises';
import { RunQueue, Scheduler } from '../../src/lib/scheduler';
import type { Stream } from '../../src/platform/stream';
import type { Reply } from '../../src/protocol/reply';
import type { DataRequest } from '../../src/protocol/request';
import { Connection, type ConnectionContext } from '../../src/transport/connection';
import { DEFAULT_LINK_LIMITS, type Handle, type LinkLimits } from '../../src/transport/link';
import { NetStream } from '../../src/transport/net-stream';
import { PortConnection } from '../../src/transport/serial-input';
import { Watches } from '../../src/transport/watches';
import { MemoryQuota, ZoneQuota } from '../../src/transport/zone-quota';
import { acceptedPair, duplexPair } from './duplex-pair';
import { Peer } from './peer';
import { Recorder } from './recorder';

/** How long a missing answer is waited for: what it would take is far below. */
const QUIET_MS = 30;

/** A connection and its other end. */
export interface Opened<C extends Connection> {
  readonly peer: Peer;
  readonly connection: C;
  /** The connection's. */
  readonly stream: Stream;
  readonly closed: Promise<void>;
}

/** The connections of one zone. */
export class ConnectionWorld {
  readonly recorder = new Recorder();
  readonly asked: DataRequest[] = [];
  readonly pending: ((reply: Reply) => void)[] = [];
  readonly scheduler = new Scheduler();
  readonly queue = new RunQueue();
  /** The answer to a WATCH, and what the zone's data looks like. */
  token = 'one';
  readonly watches = new Watches(() => ({ text: this.token, settled: true }));
  readonly quota: ZoneQuota;
  readonly limits: LinkLimits;
  /** Added to the real time. */
  later = 0;
  private readonly peers: Peer[] = [];
  private readonly values = new Map<string, string>([['k', 'value']]);

  constructor(limits: Partial<LinkLimits> = {}, memory = new MemoryQuota(() => Infinity)) {
    this.limits = { ...DEFAULT_LINK_LIMITS, ...limits };
    this.quota = new ZoneQuota(this.limits, memory);
  }

  set(key: string, value: string): void {
    this.values.set(key, value);
  }

  readonly now = (): number => performance.now() + this.later;

  /** Reads at once; PUT and DELETE when the test settles them. */
  readonly handle: Handle = (_origin, request) => {
    this.asked.push(request);
    if (request.kind === 'put' || request.kind === 'delete') {
      if (request.key === 'sdc:refused') {
        return { kind: 'failure', text: 'no' };
      }
      return new Promise((resolve) => this.pending.push(resolve));
    }
    if (request.kind === 'watch') {
      return { kind: 'success', text: this.token };
    }
    const value = request.kind === 'get' ? this.values.get(request.key) : 'k';
    return value === undefined ? { kind: 'notfound' } : { kind: 'success', text: value };
  };

  settle(text = 'OK'): void {
    this.pending.shift()?.({ kind: 'success', text });
  }

  refuse(text: string): void {
    this.pending.shift()?.({ kind: 'failure', text });
  }

  async openSocket(queue = this.queue): Promise<Opened<Connection>> {
    const { near, far } = await acceptedPair();
    return this.open(near, far, queue, (context, closed) => {
      return new Connection(near, { zonename: 'z', peer: null }, context, closed);
    });
  }

  /** @param dropped gets the bytes that were not part of a request */
  async openPort(
    dropped: (bytes: number) => void = () => undefined,
  ): Promise<Opened<PortConnection>> {
    const { near, far } = await duplexPair();
    const stream: Stream = new NetStream(near, this.now);
    return this.open(stream, far, this.queue, (context, closed) => {
      return new PortConnection(stream, { zonename: 'z', peer: null }, context, {
        dropped,
        closed,
      });
    });
  }

  end(): void {
    for (const peer of this.peers) {
      peer.socket.destroy();
    }
  }

  private open<C extends Connection>(
    stream: Stream,
    far: Socket,
    queue: RunQueue,
    make: (context: ConnectionContext, onClosed: () => void) => C,
  ): Opened<C> {
    const { handle, recorder: observer, limits, scheduler, quota, watches, now } = this;
    let done: () => void = () => undefined;
    const closed = new Promise<void>((resolve) => {
      done = resolve;
    });
    const context = { handle, observer, limits, scheduler, queue, quota, watches, now };
    const connection = make(context, done);
    const peer = new Peer(far);
    this.peers.push(peer);
    return { peer, connection, stream, closed };
  }
}

/** Resolves when whatever can happen without waiting has happened. */
export async function quiet(): Promise<void> {
  const end = performance.now() + QUIET_MS;
  while (performance.now() < end) {
    await nextIteration();
  }
}
