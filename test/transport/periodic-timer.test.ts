import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { PeriodicTimer } from '../../src/transport/periodic-timer';
import { eventually } from '../support/eventually';

describe('the sweep', () => {
  it('calls the others once in a minute’s rounds, spread evenly, until they leave', async () => {
    const sweep = new PeriodicTimer(1);
    const order: number[] = [];
    const members = Array.from({ length: 120 }, (_, i) => ({ look: () => void order.push(i) }));
    members.forEach((member) => sweep.seldom(member));
    await eventually(() => order.length >= 120);
    // Who came one after the other is in different rounds.
    const rounds = order.slice(0, 120).map((member) => member % 12);
    assert.strictEqual(new Set(order.slice(0, 120)).size, 120);
    assert.strictEqual(rounds.filter((round, at) => round !== rounds[at - 1]).length, 12);
    members.forEach((member) => sweep.leave(member));
    members.forEach((member) => sweep.leave(member));
    const before = order.length;
    // Several rounds would have come.
    await delay(30);
    assert.strictEqual(order.length, before);
  });

  it('calls the eager ones at each tick, until they end', async () => {
    const sweep = new PeriodicTimer(1);
    let calls = 0;
    const end = sweep.often(() => calls++);
    await eventually(() => calls > 60);
    end();
    const before = calls;
    await delay(20);
    assert.strictEqual(calls, before);
  });

  it('takes an end twice for one', async () => {
    const sweep = new PeriodicTimer(2);
    let calls = 0;
    const end = sweep.often(() => undefined);
    const endOther = sweep.often(() => calls++);
    end();
    end();
    await eventually(() => calls > 1);
    endOther();
  });
});
