import assert from 'node:assert';
import { Fsm, type StateHandle } from '../../src/lib/fsm';
import { eventually } from '../support/eventually';

type Light = 'red' | 'green' | 'dark';

function lights(
  enter: Partial<Record<Light, (handle: StateHandle<Light>) => void>> = {},
): Fsm<Light> {
  const nothing = () => undefined;
  return new Fsm<Light>(
    'light',
    {
      red: { next: ['green', 'dark'], enter: enter.red ?? nothing },
      green: { next: ['red', 'dark'], enter: enter.green ?? nothing },
      dark: { next: [], enter: enter.dark ?? nothing },
    },
    'red',
    undefined,
  );
}

describe('a state machine', () => {
  it('ends the timers of a state, and what it waits for, when it is left', async () => {
    const seen: string[] = [];
    const machine = lights({
      red: (handle) => {
        handle.timeout(1, () => seen.push('red timed out'));
        handle.until(
          Promise.resolve(),
          () => seen.push('red has waited'),
          () => seen.push('red failed'),
        );
      },
      green: (handle) => {
        handle.timeout(1, () => seen.push('green timed out'));
        handle.until(
          Promise.reject(new Error('broken')),
          () => seen.push('green has waited'),
          () => seen.push('green failed'),
        );
      },
    });
    machine.start();
    machine.goto('green');
    await eventually(() => seen.length > 1);
    assert.deepStrictEqual(seen, ['green failed', 'green timed out']);
  });

  it('refuses an illegal transition and names both states', () => {
    const machine = lights();
    machine.start();
    machine.goto('dark');
    assert.throws(() => machine.goto('red'), /light: illegal transition dark -> red/);
  });

  it('makes a transition that an entry function requests once that has returned', () => {
    const order: string[] = [];
    const machine = lights({
      red: (handle) => {
        handle.leaving(() => order.push('left red'));
        handle.goto('green');
        order.push('entered red');
      },
      green: () => order.push('entered green'),
    });
    machine.start();
    assert.deepStrictEqual(order, ['entered red', 'left red', 'entered green']);
  });

  it('ignores the handle of a state that was left', () => {
    let old: StateHandle<Light> | null = null;
    const machine = lights({ red: (handle) => (old ??= handle) });
    machine.start();
    machine.goto('green');
    const stale = old as StateHandle<Light> | null;
    stale?.goto('dark');
    assert.strictEqual(machine.state, 'green');
    assert.strictEqual(stale?.live, false);
  });

  it('keeps the last eight states with their times', () => {
    const machine = lights();
    machine.start();
    for (let i = 0; i < 10; i++) {
      machine.goto(machine.state === 'red' ? 'green' : 'red');
    }
    const history = machine.history();
    assert.strictEqual(history.length, 8);
    assert.deepStrictEqual(
      history.slice(-2).map((record) => record.state),
      ['green', 'red'],
    );
  });
});
