/*
 * Another process on a simulated node's event channel: `zone-child.js WHAT ROOT [ARGUMENT]`.
 *
 *   subscribe             prints `bound`, then each event's `when`, a line each
 *   publish COUNT         publishes events 1 to COUNT, as fast as they are accepted
 *   count COUNT FILE      writes each number into the file before it publishes it
 *   boot COUNT            boots the zones z0, z1 ..., all at the same time, after it printed `booting`
 *   end STEP/ENDING       goes as far as STEP with a subscription, then ends by ENDING
 */
import { renameSync, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { openPlatform } from '../../src/platform/libzonecfg';
import { bindZoneEvents, type ZoneSubscription } from '../../src/platform/zone-events';
import { openEmulation } from '../../tools/simcn/emulation';
import { FaultTable } from '../../tools/simcn/faults';
import { Kernel } from '../../tools/simcn/kernel';

const [, , what = '', root = '', argument = '', file = ''] = process.argv;

async function publish(count: number, before: (n: number) => void): Promise<void> {
  const emulation = openEmulation(root);
  for (let n = 1; n <= count; n++) {
    before(n);
    await emulation.publish('alpha', 1, 'running', 'ready', BigInt(n));
  }
}

async function boot(count: number): Promise<void> {
  const kernel = new Kernel(openEmulation(root), new FaultTable());
  const names = Array.from({ length: count }, (_, n) => `z${n}`);
  process.stdout.write('booting\n');
  for (const [from, to] of [
    ['uninitialized', 'initialized'],
    ['initialized', 'ready'],
    ['ready', 'booting'],
    ['booting', 'running'],
  ] as const) {
    await Promise.all(names.map((name) => kernel.move(name, from, to)));
  }
}

function subscribe(): void {
  keepReferenced(
    bindZoneEvents(
      (event) => process.stdout.write(`${event.when}\n`),
      (count) => process.stdout.write(`lost ${count}\n`),
      { root },
    ),
  );
  process.stdout.write('bound\n');
}

/** Ends the process in the given way; `exit` code 7 is how the test knows that it was this. */
const ENDINGS: Readonly<Record<string, () => void>> = {
  exit: () => process.exit(7),
  throw: () => {
    process.on('uncaughtException', () => process.exit(7));
    setImmediate(() => {
      throw new Error('on purpose');
    });
  },
  term: () => {
    process.once('SIGTERM', () => process.exit(7));
    // A signal takes a turn of the loop, and a closed subscription keeps nothing alive.
    setTimeout(() => undefined, 10_000);
    process.kill(process.pid, 'SIGTERM');
  },
};

const STEPS: Readonly<Record<string, (end: () => void) => Promise<void> | void>> = {
  bound: (end) => {
    bind();
    end();
  },
  entering: (end) => {
    void bind().enterCritical();
    end();
  },
  entered: async (end) => {
    await bind().enterCritical();
    end();
  },
  exiting: async (end) => {
    const subscription = bind();
    await subscription.enterCritical();
    void subscription.exitCritical();
    end();
  },
  held: async (end) => {
    const subscription = bind();
    await subscription.enterCritical();
    await openEmulation(root).publish('alpha', 1, 'running', 'ready', 1n);
    // An event came in, so the section is still held.
    if (await subscription.exitCritical()) {
      end();
    }
  },
  'in an event': async (end) => {
    keepReferenced(bindZoneEvents(end, () => undefined, { root }));
    await openEmulation(root).publish('alpha', 1, 'running', 'ready', 1n);
  },
  closing: async (end) => {
    const subscription = bind();
    await subscription.enterCritical();
    void subscription.close();
    end();
  },
  closed: async (end) => {
    await bind().close();
    end();
  },
  'with many': async (end) => {
    const many = Array.from({ length: 20 }, bind);
    await Promise.all(many.map((one) => one.enterCritical()));
    void many[3]?.close();
    end();
  },
  'with a worker in the section': (end) => {
    const script = `
      const { bindZoneEvents } = require(${JSON.stringify(require.resolve('../../src/platform/zone-events'))});
      const subscription = bindZoneEvents(() => {}, () => {}, { root: ${JSON.stringify(root)} });
      subscription.enterCritical().then(() => require('node:worker_threads').parentPort.postMessage(1));
    `;
    new Worker(script, { eval: true }).once('message', end);
  },
};

/** Whom nobody holds the collector closes. */
const held: ZoneSubscription[] = [];

function keepReferenced(subscription: ZoneSubscription): ZoneSubscription {
  held.push(subscription);
  return subscription;
}

function bind(): ZoneSubscription {
  return keepReferenced(
    bindZoneEvents(
      () => undefined,
      () => undefined,
      { root },
    ),
  );
}

async function main(): Promise<void> {
  openPlatform(root);
  switch (what) {
    case 'subscribe':
      subscribe();
      return;
    case 'boot':
      await boot(Number(argument));
      return;
    case 'publish':
      await publish(Number(argument), () => undefined);
      return;
    case 'count':
      await publish(Number(argument), (n) => {
        writeFileSync(`${file}.new`, String(n));
        renameSync(`${file}.new`, file);
      });
      return;
    case 'end': {
      const [step = '', ending = ''] = argument.split('/');
      await STEPS[step]?.(ENDINGS[ending] ?? (() => undefined));
      return;
    }
    default:
      throw new Error(`zone-child: what is ${what}?`);
  }
}

main().catch((err: unknown) => {
  process.stderr.write(`${String(err)}\n`);
  process.exitCode = 1;
});
