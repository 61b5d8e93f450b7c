/*
 * A node with zone events, and whoever is to hear of them: subscriptions in this process and programs in
 * others. All of it is gone after `clear`, and no descriptor is left.
 */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import {
  bindZoneEvents,
  type RawZoneEvent,
  type ZoneSubscription,
} from '../../src/platform/zone-events';
import { makeNode, openDescriptors, type EmulatedNode } from './emulated-node';
import { eventually } from './eventually';

/** The program that the others run. */
export const ZONE_CHILD = require.resolve('./zone-child');

export class SubscriptionStage {
  readonly node: EmulatedNode;
  private readonly descriptors: number;
  private readonly subscriptions: ZoneSubscription[] = [];
  private readonly children: ChildProcess[] = [];

  private constructor(node: EmulatedNode) {
    this.node = node;
    this.descriptors = openDescriptors();
  }

  static async set(): Promise<SubscriptionStage> {
    const node = makeNode();
    // The thread pool and the first async call open descriptors of their own, once.
    await node.emulation.publish('warm', 0, '', '', 0n);
    // So does the first process that is started: Node keeps its /dev/null.
    await once(spawn('true', { stdio: ['ignore', 'pipe', 'inherit'] }), 'close');
    return new SubscriptionStage(node);
  }

  async clear(): Promise<void> {
    for (const child of this.children.splice(0)) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) {
        await once(child, 'exit');
      }
      child.stdout?.destroy();
    }
    await Promise.all(this.subscriptions.splice(0).map((one) => one.close()));
    await eventually(
      () => openDescriptors() === this.descriptors,
      'the number of descriptors as before',
    );
    this.node.remove();
  }

  subscribe(
    onEvent: (event: RawZoneEvent) => void,
    onLost: (count: number) => void = () => assert.fail('no event may be lost'),
    maxQueued?: number,
  ): ZoneSubscription {
    const { root } = this.node;
    const options = maxQueued === undefined ? { root } : { root, maxQueued };
    const subscription = bindZoneEvents(onEvent, onLost, options);
    this.subscriptions.push(subscription);
    return subscription;
  }

  /** A subscription, as the numbers of the events that it gets. */
  received(): bigint[] {
    const seen: bigint[] = [];
    this.subscribe((event) => seen.push(event.when));
    return seen;
  }

  child(role: string, ...args: string[]): ChildProcess {
    const child = spawn(process.execPath, [ZONE_CHILD, role, this.node.root, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.children.push(child);
    return child;
  }

  /** A subscriber of another process, once it is bound; `seen` grows as events reach it. */
  async subscriberElsewhere(): Promise<{ process: ChildProcess; seen: string[] }> {
    const subscriber = this.child('subscribe');
    assert(subscriber.stdout !== null);
    const seen: string[] = [];
    const lines = createInterface(subscriber.stdout);
    lines.on('line', (line) => seen.push(line));
    await eventually(() => seen.shift() === 'bound', 'the subscriber');
    return { process: subscriber, seen };
  }

  /** One event for each of the numbers. */
  async publishAll(from: number, to: number): Promise<void> {
    for (let n = from; n <= to; n++) {
      await this.node.emulation.publish('alpha', 1, 'running', 'ready', BigInt(n));
    }
  }
}

/** What a subscription gets of events with these numbers. */
export function numbers(from: number, to: number): bigint[] {
  return Array.from({ length: to - from + 1 }, (_, i) => BigInt(from + i));
}
