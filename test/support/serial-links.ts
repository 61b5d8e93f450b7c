/*
 * Serial links to the ports of a simulated hypervisor, below a zone root of their own.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Scheduler } from '../../src/lib/scheduler';
import { NodeMetrics } from '../../src/metrics';
import { ZoneRoots } from '../../src/platform/zone-root';
import type { Reply } from '../../src/protocol/reply';
import { DEFAULT_LINK_LIMITS } from '../../src/transport/link';
import { MemoryQuota } from '../../src/transport/zone-quota';
import { SerialLink, type SerialOptions } from '../../src/transport/serial-link';
import { Ttyb, type TtybKind } from '../../tools/simcn/ttyb';
import { eventually } from './eventually';
import { nothingLeft, openThings } from './open-things';
import { unchangingWatches } from './verb-options';
import { Recorder } from './recorder';

/** From when a connection is possible again. */
export const RECONNECT_MS = 500;

/** One zone with its ports and links. Ended by `end`, which checks that nothing is left open. */
export class SerialWorld {
  readonly recorder = new Recorder();
  readonly metrics = new NodeMetrics();
  /** PUTs that wait for the test. */
  readonly pending: ((reply: Reply) => void)[] = [];
  readonly zoneroot: string;
  /** Of the usual port. */
  readonly path: string;
  private readonly before = openThings();
  private readonly zonepath = mkdtempSync(join(tmpdir(), 'sl-'));
  private readonly roots: ZoneRoots;
  private readonly ports: Ttyb[] = [];
  private readonly links: SerialLink[] = [];

  constructor() {
    this.zoneroot = join(this.zonepath, 'root');
    mkdirSync(this.zoneroot);
    this.roots = new ZoneRoots(this.zonepath);
    this.path = join(this.zoneroot, 'tmp', 'vm.ttyb');
  }

  link(options: Partial<SerialOptions> = {}): SerialLink {
    const link = new SerialLink({
      zonename: 'zone',
      root: this.roots.of(this.zonepath),
      zoneOfPeer: () => 'zone',
      facts: () => Promise.resolve({ com2: 'socket,/tmp/vm.ttyb' }),
      handle: (_origin, request) =>
        request.kind === 'put'
          ? new Promise((resolve) => this.pending.push(resolve))
          : { kind: 'success', text: 'value' },
      observer: this.recorder,
      metrics: this.metrics,
      ranBefore: false,
      limits: DEFAULT_LINK_LIMITS,
      memory: new MemoryQuota(() => Infinity),
      scheduler: new Scheduler(),
      watches: unchangingWatches(),
      log: this.recorder,
      ...options,
    });
    this.links.push(link);
    return link;
  }

  port(kind: TtybKind = 'bhyve', at = this.path): Ttyb {
    const made = new Ttyb({ path: at, kind });
    this.ports.push(made);
    return made;
  }

  /** What was logged of the port, in order. */
  get logged(): string[] {
    return this.recorder.records.map(({ msg }) => msg);
  }

  async running(link: SerialLink, ttyb: Ttyb): Promise<void> {
    await ttyb.start();
    link.zoneRunning();
    await served(ttyb);
  }

  async end(): Promise<void> {
    await Promise.all(this.links.map((link) => link.stop(0)));
    await Promise.all(this.ports.map((port) => port.stop()));
    this.roots.stop();
    rmSync(this.zonepath, { recursive: true });
    await nothingLeft(this.before);
  }
}

/** A guest's program resets the protocol and is answered, within `ms`, retrying as a client does. */
export async function served(ttyb: Ttyb, ms = RECONNECT_MS): Promise<void> {
  const begin = performance.now();
  await eventually(() => ttyb.connected, 'a connection', ms);
  const received: Buffer[] = [];
  const listener = (chunk: Buffer): number => received.push(chunk);
  ttyb.guest.on('data', listener);
  ttyb.guest.write('\n');
  const remaining = ms - (performance.now() - begin);
  await eventually(
    () => Buffer.concat(received).toString() === 'invalid command\n',
    'an answer',
    remaining,
  );
  ttyb.guest.removeListener('data', listener);
}
