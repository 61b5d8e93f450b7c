/*
 * From the event that tells of a zone to the first connection that its socket takes, for zones that are
 * made one by one, and for many at once.
 */
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { openPlatform } from '../../src/platform/libzonecfg';
import { bindZoneEvents } from '../../src/platform/zone-events';
import { Paths } from '../../src/platform/paths';
import { ask } from '../simcn/control';
import { makeVm, type BenchNode } from './node';

/** Made one by one, at most. */
const SINGLES = 100;
const MOST_ATTEMPTS = 5000;

interface Arrival {
  /** The event's own time, and when the socket took a connection; ms since 1970. */
  readonly when: number;
  readonly served: number;
}

export interface CreationTimes {
  /** Of each that was made by itself, in ascending order. */
  readonly singlesMs: readonly number[];
  /** From the first event of the burst until all are served. */
  readonly burstSeconds: number;
  readonly burst: number;
}

/** @param burst zones that are made at once */
export async function servedAfterCreation(node: BenchNode, burst: number): Promise<CreationTimes> {
  const paths = new Paths(node.root);
  openPlatform(node.root);
  const delays: Promise<Arrival>[] = [];
  const subscription = bindZoneEvents(
    ({ zonename, oldstate, when }) => {
      if (oldstate === '') {
        delays.push(arrival(paths.zoneSocket(zonename), Number(when) / 1e6));
      }
    },
    () => undefined,
    { root: node.root },
  );
  const create = async (zones: number): Promise<void> => {
    const vms = Array.from({ length: zones }, (_, n) => makeVm(n));
    const halted = vms.map((vm) => ({ ...vm, zone_state: 'installed' }));
    await ask(node.root, 'create', { vms: halted, boot: false });
  };
  try {
    for (let zone = 0; zone < SINGLES && zone < burst; zone++) {
      await create(1);
      await pause(5);
    }
    const singles = await Promise.all(delays.splice(0));
    await create(burst);
    await pause(500);
    const all = await Promise.all(delays.splice(0));
    const first = Math.min(...all.map(({ when }) => when));
    const last = Math.max(...all.map(({ served }) => served));
    return {
      singlesMs: singles.map(({ when, served }) => served - when).sort((a, b) => a - b),
      burstSeconds: (last - first) / 1000,
      burst: all.length,
    };
  } finally {
    await subscription.close();
  }
}

/** Resolves when the socket takes a connection. */
async function arrival(path: string, when: number): Promise<Arrival> {
  for (let attempts = 0; attempts < MOST_ATTEMPTS; attempts++) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = connect(path, () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (connected) {
      return { when, served: performance.timeOrigin + performance.now() };
    }
    await pause(1);
  }
  throw new Error(`nobody listens at ${path}`);
}
