#!/usr/bin/env node
/*
 * mdata-watch: waits for changes of metadata keys, and prints the new values or runs a command for each change.
 *
 *   token of the keys -> their values -> WATCH -----another token--------> values -> what differs is told -> WATCH ...
 *                                          `-- an agent without WATCH: the values are read every 10 s, and WATCH is
 *                                              asked for again every 30 s: a newer agent may have taken its place
 *
 * The token is older than the values that are read after it: what changes in between is told by the next WATCH.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../src/lib/errors';
import type { Command, Outcome } from '../../src/protocol/client';
import type { Arguments } from './arguments';
import { failureOf, isPassing, isUnknown, NEWLINE, runProgram, say, send, valueIn } from './tool';

const USAGE = {
  name: 'mdata-watch',
  summary: 'Waits for changes of metadata keys.',
  operands: 'KEY... [-- COMMAND [ARG...]]',
  least: 1,
  options: [
    { flag: '-t', value: 'SECONDS', help: 'end after this long (default: never)' },
    { flag: '--once', help: 'end after the first change' },
  ],
  help: `Prints each key that changed and its new value, a line each. With a COMMAND it is run instead
at each change, with MDATA_KEYS (the keys that changed, one a line) and MDATA_TOKEN in its environment.`,
} as const;

const EXIT_UNCHANGED = 1;
const EXIT_USAGE = 3;
/** The longest that an agent lets one request wait, seconds. */
const MAX_WAIT_S = 300;
/** Between looks where the agent cannot tell. */
const POLL_MS = 10_000;
/** After so many of them the agent is asked for WATCH again. */
const POLLS_A_WATCH = 3;
/** What WATCH counts in, and the least that it waits. */
const SECOND_MS = 1000;
/** Before a request is sent again that met a passing fault. */
const RETRY_MS = 1000;

/** A key's value as a GET tells it; null where it has none. */
type Values = readonly (Buffer | null)[];

class Watcher {
  private readonly args: Arguments;
  private readonly keys: readonly Buffer[];
  private readonly command: readonly string[];
  private readonly endsAt: number;
  private readonly once: boolean;
  /** Null: the agent knows no WATCH. */
  private token: string | null = '-';
  private polls = 0;
  private changed = false;

  constructor(args: Arguments, seconds: number) {
    const at = args.operands.findIndex((word) => word.toString('latin1') === '--');
    this.args = args;
    this.keys = at < 0 ? args.operands : args.operands.slice(0, at);
    this.command = at < 0 ? [] : args.operands.slice(at + 1).map((word) => word.toString('utf8'));
    this.endsAt = performance.now() + 1000 * seconds;
    this.once = args.options.has('--once');
  }

  get hasKeys(): boolean {
    return this.keys.length > 0;
  }

  /** @returns the exit code */
  async run(): Promise<number> {
    await this.wait();
    let values = await this.values();
    while (performance.now() < this.endsAt) {
      await this.wait();
      const next = await this.values();
      const keys = this.keys.filter((_, at) => !isSame(values[at], next[at]));
      values = next;
      if (keys.length > 0) {
        this.changed = true;
        await this.tell(keys, next);
        if (this.once) {
          break;
        }
      }
    }
    return this.changed ? 0 : EXIT_UNCHANGED;
  }

  /** Until the keys may have changed, or the time is over; the first time, not at all. */
  private async wait(): Promise<void> {
    const { keys } = this;
    const leftMs = (): number => Math.max(0, this.endsAt - performance.now());
    let token = this.token;
    if (token === null) {
      await sleep(Math.min(POLL_MS, leftMs()));
      if (++this.polls % POLLS_A_WATCH !== 0) {
        return;
      }
      token = '-';
    } else if (token !== '-' && leftMs() < SECOND_MS) {
      // Less than a WATCH can wait: it is asked at the end, and answers at once.
      await sleep(leftMs());
      token = '-';
    }
    const known = token;
    const outcome = await this.ask(() => {
      const seconds = Math.max(1, Math.min(MAX_WAIT_S, Math.floor(leftMs() / SECOND_MS)));
      return { kind: 'watch', seconds, token: known, keys };
    });
    if (outcome.kind === 'success') {
      this.token = outcome.data.toString('latin1');
      return;
    }
    if (!isUnknown(outcome)) {
      throw failureOf(outcome);
    }
    if (this.token !== null) {
      say(`${USAGE.name}: this agent cannot tell of changes: looking every 10 seconds`);
    }
    this.token = null;
  }

  private async values(): Promise<Values> {
    const values: (Buffer | null)[] = [];
    for (const key of this.keys) {
      values.push(valueIn(await this.ask(() => ({ kind: 'get', key }))));
    }
    return values;
  }

  /** Asks again after an answer that will be another. Throws it where the time is over before. */
  private async ask(commandNow: () => Command): Promise<Outcome> {
    for (;;) {
      const outcome = await send(USAGE, this.args, commandNow());
      if (!isPassing(outcome)) {
        return outcome;
      }
      if (this.endsAt - performance.now() < RETRY_MS) {
        throw failureOf(outcome);
      }
      await sleep(RETRY_MS);
    }
  }

  private async tell(keys: readonly Buffer[], values: Values): Promise<void> {
    if (this.command.length > 0) {
      await this.execute(keys);
      return;
    }
    for (const key of keys) {
      const value = values[this.keys.indexOf(key)] ?? null;
      if (value === null) {
        process.stderr.write(
          Buffer.concat([Buffer.from("No metadata for '"), key, Buffer.from("'\n")]),
        );
      } else {
        const end = value.at(-1) === NEWLINE[0] ? [] : [NEWLINE];
        process.stdout.write(Buffer.concat([key, NEWLINE, value, ...end]));
      }
    }
  }

  /** A command that fails is told, and does not end the watch. */
  private async execute(keys: readonly Buffer[]): Promise<void> {
    const [program = '', ...args] = this.command;
    const env = {
      ...process.env,
      MDATA_KEYS: keys.map((key) => key.toString('utf8')).join('\n'),
      MDATA_TOKEN: this.token ?? '',
    };
    const child = spawn(program, args, { stdio: 'inherit', env });
    try {
      await once(child, 'exit');
      const { exitCode: code, signalCode: signal } = child;
      if (code !== 0) {
        say(`${USAGE.name}: ${program} ended with ${String(code ?? signal)}`);
      }
    } catch (err) {
      say(`${USAGE.name}: ${messageOf(err)}`);
    }
  }
}

function isSame(a: Buffer | null | undefined, b: Buffer | null | undefined): boolean {
  return a instanceof Buffer && b instanceof Buffer ? a.equals(b) : a === b;
}

void runProgram(USAGE, (args) => {
  const time = args.options.get('-t');
  const seconds = time === undefined ? Infinity : Number(time);
  const watcher = new Watcher(args, seconds);
  if (!(seconds > 0) || !watcher.hasKeys) {
    say(
      `${USAGE.name}: ${watcher.hasKeys ? '-t wants a number of seconds above 0' : 'which key?'}`,
    );
    return Promise.resolve(EXIT_USAGE);
  }
  return watcher.run();
});
