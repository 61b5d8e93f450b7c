/*
 * What a calm zone feels while something goes on: how slow its GETs are then, against how slow they are
 * just before. It asks from a process of its own (neighbour-child.ts): whoever presses the agent from the
 * test's process does not slow it, and what the test's own event loop costs is not measured.
 */
import assert from 'node:assert';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { bestOf, contention } from './best-of';
import { within } from './guest-session';

const CHILD = join(__dirname, 'neighbour-child.js');
const WORD_MS = 50_000;
const CALM_MS = 400;
/** What is promised: the 99th percentile of others' GETs stays within so many times the calm latency. */
const MOST_TIMES = 3;
/**
 * A 99th percentile that is no slower than this is good where a processor is free, whatever the calm latency. Below
 * it the machine's scheduler is measured: the agent, who presses it and who asks want a processor each at the same
 * time.
 */
const GOOD_MS = availableParallelism() < 4 ? 100 : 20;
/** With a calm latency above this the machine is not calm, and excuses no more. */
const MOST_CALM_MS = 50;
/** More than for other promises: what presses takes all processors that a small machine has. */
const ATTEMPTS = 5;
/** What one try left behind does not slow the calm of the next. */
const SETTLED_MS = 1000;

export class Neighbour {
  private readonly child: ChildProcess;
  private readonly ended: Promise<never>;

  private constructor(child: ChildProcess) {
    this.child = child;
    this.ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the neighbour ended with ${String(code)}: it was not served`);
    });
    // Nobody may be listening when it is asked to leave.
    this.ended.catch(() => undefined);
  }

  /** @param uuid what it is answered to `sdc:uuid` */
  static async at(socket: string, uuid: string): Promise<Neighbour> {
    const neighbour = new Neighbour(fork(CHILD, [socket, uuid], { execArgv: [] }));
    assert.strictEqual(await neighbour.hear(), 'ready');
    return neighbour;
  }

  /** Ends its process. */
  async leave(): Promise<void> {
    if (this.child.connected) {
      const exited = once(this.child, 'exit');
      this.child.disconnect();
      await exited;
    }
  }

  /** The 99th percentile of its GETs while something is done, ms. */
  async p99During(work: () => Promise<unknown>): Promise<number> {
    this.child.send('begin');
    await work();
    this.child.send('end');
    return Number(await this.hear());
  }

  /** It is served as promised while it is pressed: in the best of some turns of calm and pressure. */
  async isServedDuring(press: () => Promise<unknown>): Promise<void> {
    const reported: string[] = [];
    const turn = async (): Promise<number> => {
      await delay(reported.length === 0 ? 0 : SETTLED_MS);
      const good = GOOD_MS * contention();
      const calm = await this.p99During(() => delay(CALM_MS));
      const pressed = await this.p99During(press);
      reported.push(`${pressed.toFixed(1)} ms, ${calm.toFixed(1)} ms when it is calm`);
      return pressed / Math.max(Math.min(calm, MOST_CALM_MS), good / MOST_TIMES);
    };
    const times = await bestOf(MOST_TIMES, turn, ATTEMPTS);
    assert(times < MOST_TIMES, reported.join('; '));
  }

  /** Its next word. Rejects when it ends instead. */
  private async hear(): Promise<unknown> {
    const word = once(this.child, 'message').then(([message]) => message as unknown);
    return within(Promise.race([word, this.ended]), WORD_MS, 'a word of the neighbour');
  }
}
