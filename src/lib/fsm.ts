/*
 * A finite state machine in the manner of mooremachine: what a state waits for ends when the state is left, so that
 * nothing of an old state is ever handled in a new one.
 *
 * A machine is a table: for each state the states that may follow it, and a function that runs on entry. Actions happen
 * on entry only; a `goto` in an entry function takes effect when that function has returned.
 */
import assert from 'node:assert';

/** How many past states a machine remembers: enough to see a reboot loop, few enough for 4,096 zones. */
const HISTORY_LENGTH = 8;

export interface StateRecord<S extends string> {
  readonly state: S;
  /** Milliseconds since 1970. */
  readonly since: number;
}

/** @typeParam O the owner: machines of thousands of zones share one table, and each hands in its own */
export type States<S extends string, O = void> = Readonly<
  Record<
    S,
    { readonly next: readonly S[]; readonly enter: (handle: StateHandle<S>, owner: O) => void }
  >
>;

/** Made with its table, then started, once. */
export class Fsm<S extends string, O = void> {
  /** Replaced, never grown: an array that grows keeps room for sixteen more. */
  private past: readonly StateRecord<S>[] = [];
  private current: S;
  private handle: StateHandle<S> | null = null;
  private entering = false;
  private pending: S | null = null;

  /**
   * @param name names the machine in the message of an illegal transition
   * @param owner handed to the functions of the table
   */
  constructor(
    private readonly name: string,
    private readonly states: States<S, O>,
    initial: S,
    private readonly owner: NoInfer<O>,
    private readonly onChange?: (state: S, previous: S, owner: O) => void,
  ) {
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

  /** Changes the state. An illegal transition is a bug of ours. */
  goto(next: S): void {
    const allowed = this.states[this.current].next.includes(next);
    assert(allowed, `${this.name}: illegal transition ${this.current} -> ${next}`);
    if (this.entering) {
      assert(this.pending === null, `${this.name}: two transitions out of ${this.current} at once`);
      this.pending = next;
      return;
    }
    this.handle?.end();
    const previous = this.current;
    this.current = next;
    this.onChange?.(next, previous, this.owner);
    this.enter(next);
  }

  private enter(state: S): void {
    this.past = [...this.past.slice(1 - HISTORY_LENGTH), { state, since: Date.now() }];
    const handle = new StateHandle<S>(this);
    this.handle = handle;
    this.entering = true;
    try {
      this.states[state].enter(handle, this.owner);
    } finally {
      this.entering = false;
    }
    const { pending } = this;
    this.pending = null;
    if (pending !== null) {
      this.goto(pending);
    }
  }
}

/** What a state's entry function works through; dead as soon as the state is left. */
export class StateHandle<S extends string> {
  /** True until the state is left. */
  live = true;
  /** Null while there is nothing: most machines of a node are in a state that holds nothing. */
  private undo: (() => void)[] | null = null;

  constructor(private readonly machine: { goto(next: S): void }) {}

  goto(next: S): void {
    if (this.live) {
      this.machine.goto(next);
    }
  }

  /** A timer that the state's end clears. @param ms at least 0 */
  timeout(ms: number, fn: () => void): void {
    const timer = setTimeout(fn, ms);
    this.leaving(() => clearTimeout(timer));
  }

  /** Waits for a promise; the callbacks run only if the state still lasts then. */
  until<T>(promise: Promise<T>, done: (value: T) => void, failed: (err: unknown) => void): void {
    promise.then(
      (value) => this.live && done(value),
      (err: unknown) => this.live && failed(err),
    );
  }

  /** Runs when the state is left, last registered first. */
  leaving(fn: () => void): void {
    (this.undo ??= []).push(fn);
  }

  /** The machine leaves the state. */
  end(): void {
    this.live = false;
    this.undo?.reverse().forEach((step) => step());
    this.undo = null;
  }
}
