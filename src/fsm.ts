/*
 * A finite state machine in the manner of mooremachine: what a state listens to, and every timer that
 * it set, ends when the state is left, so that no event of an old state is ever acted on in a new one.
 *
 * A machine is a table: for each state the states that may follow it, and a function that runs on
 * entry. Actions happen on entry only. Whoever stands outside calls `signal`-like methods of the
 * owner, and those reach the machine through a state's own listeners or through `goto` of its handle.
 *
 * It does not queue: `goto` from an entry function is carried out when that function has returned.
 */
import assert from 'node:assert';
import type { EventEmitter } from 'node:events';

/** How many past states a machine remembers: enough to see a reboot loop, few enough for 4,096 zones. */
const HISTORY_LENGTH = 8;

export interface StateRecord<S extends string> {
  readonly state: S;
  /** Milliseconds since 1970. */
  readonly since: number;
}

/** What a state's entry function does its work through; dead as soon as the state is left. */
export interface StateHandle<S extends string> {
  /** True until the state is left. */
  readonly live: boolean;
  goto(next: S): void;
  /** Listens for as long as the state lasts. */
  on(emitter: EventEmitter, event: string, listener: (...args: unknown[]) => void): void;
  /** A timer that the state's end clears. @param ms at least 0 */
  timeout(ms: number, fn: () => void): void;
  /** Waits for a promise; the callbacks run only if the state still lasts then. */
  until<T>(promise: Promise<T>, done: (value: T) => void, failed: (err: unknown) => void): void;
  /** Runs when the state is left, last registered first. */
  leaving(fn: () => void): void;
}

export interface StateDefinition<S extends string> {
  readonly next: readonly S[];
  readonly enter: (handle: StateHandle<S>) => void;
}

export class Fsm<S extends string> {
  private readonly name: string;
  private readonly states: Readonly<Record<S, StateDefinition<S>>>;
  private readonly onChange: (state: S, previous: S) => void;
  private readonly past: StateRecord<S>[] = [];
  private current: S;
  private handle: LiveHandle<S> | null = null;
  private entering = false;
  private pending: S | null = null;

  /** @param name names the machine in the message of an illegal transition */
  constructor(
    name: string,
    states: Readonly<Record<S, StateDefinition<S>>>,
    initial: S,
    onChange: (state: S, previous: S) => void = () => undefined,
  ) {
    this.name = name;
    this.states = states;
    this.onChange = onChange;
    this.current = initial;
  }

  /** Enters the first state. Called once, when the owner is fully built. */
  start(): void {
    assert(this.handle === null, `${this.name}: started twice`);
    this.enter(this.current);
  }

  get state(): S {
    return this.current;
  }

  /** The last eight states with the times they were entered at, oldest first. */
  history(): readonly StateRecord<S>[] {
    return this.past;
  }

  /** Moves on. An illegal transition is our own fault: it throws, naming both states. */
  goto(next: S): void {
    const allowed = this.states[this.current].next;
    if (!allowed.includes(next)) {
      throw new assert.AssertionError({
        message: `${this.name}: illegal transition ${this.current} -> ${next}`,
      });
    }
    if (this.entering) {
      assert(this.pending === null, `${this.name}: two ways out of ${this.current} at once`);
      this.pending = next;
      return;
    }
    this.handle?.end();
    const previous = this.current;
    this.current = next;
    this.onChange(next, previous);
    this.enter(next);
  }

  private enter(state: S): void {
    this.past.push({ state, since: Date.now() });
    if (this.past.length > HISTORY_LENGTH) {
      this.past.shift();
    }
    const handle = new LiveHandle<S>(this);
    this.handle = handle;
    this.entering = true;
    try {
      this.states[state].enter(handle);
    } finally {
      this.entering = false;
    }
    const pending = this.pending;
    if (pending !== null) {
      this.pending = null;
      this.goto(pending);
    }
  }
}

class LiveHandle<S extends string> implements StateHandle<S> {
  live = true;
  private readonly machine: Fsm<S>;
  private undo: (() => void)[] = [];

  constructor(machine: Fsm<S>) {
    this.machine = machine;
  }

  goto(next: S): void {
    if (this.live) {
      this.machine.goto(next);
    }
  }

  on(emitter: EventEmitter, event: string, listener: (...args: unknown[]) => void): void {
    emitter.on(event, listener);
    this.undo.push(() => emitter.removeListener(event, listener));
  }

  timeout(ms: number, fn: () => void): void {
    const timer = setTimeout(fn, ms);
    this.undo.push(() => clearTimeout(timer));
  }

  until<T>(promise: Promise<T>, done: (value: T) => void, failed: (err: unknown) => void): void {
    promise.then(
      (value) => {
        if (this.live) {
          done(value);
        }
      },
      (err: unknown) => {
        if (this.live) {
          failed(err);
        }
      },
    );
  }

  leaving(fn: () => void): void {
    this.undo.push(fn);
  }

  end(): void {
    this.live = false;
    const undo = this.undo;
    this.undo = [];
    for (const step of undo.reverse()) {
      step();
    }
  }
}
