import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { PeriodicTimer } from '../../src/lib/periodic-timer';
import { eventually } from '../support/eventually';

describe('the periodic timer', () => {
  it('checks each task once a minute, spread evenly, until it is removed', async () => {
    const timer = new PeriodicTimer(1);
    const order: number[] = [];
    const members = Array.from({ length: 120 }, (_, i) => ({ check: () => void order.push(i) }));
    members.forEach((member) => timer.everyMinute(member));
    await eventually(() => order.length >= 120);
    // Tasks that were added one after the other are in different passes.
    const passes = order.slice(0, 120).map((member) => member % 12);
    assert.strictEqual(new Set(order.slice(0, 120)).size, 120);
    assert.strictEqual(passes.filter((pass, at) => pass !== passes[at - 1]).length, 12);
    members.forEach((member) => timer.remove(member));
    members.forEach((member) => timer.remove(member));
    const before = order.length;
    // Several passes would have come.
    await delay(30);
    assert.strictEqual(order.length, before);
  });

  it('calls back every second until it is stopped', async () => {
    const timer = new PeriodicTimer(1);
    let calls = 0;
    const end = timer.everySecond(() => calls++);
    await eventually(() => calls > 60);
    end();
    const before = calls;
    await delay(20);
    assert.strictEqual(calls, before);
  });

  it('may be stopped twice', async () => {
    const timer = new PeriodicTimer(2);
    let calls = 0;
    const end = timer.everySecond(() => undefined);
    const endOther = timer.everySecond(() => calls++);
    end();
    end();
    await eventually(() => calls > 1);
    endOther();
  });
});
