/*
 * As many watches as the connections of 500 zones allow, which is 32,000: what they take of memory and of the
 * processor, how soon they are told, and that a zone beside them is served as ever.
 */
import assert from 'node:assert';
import { fork, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { within } from '../support/guest-session';
import { Neighbour } from '../support/neighbour';
import { parseExposition, sampleOf } from '../support/prometheus';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const CONNECTIONS = 64;
/** Descriptors that the agent and the guests need besides. */
const OTHER_DESCRIPTORS = 800;
/** All of 500 zones, or as many as one process may have descriptors here. */
const ZONES = Math.min(500, Math.floor((mostDescriptors() - OTHER_DESCRIPTORS) / CONNECTIONS));
const WAITING = ZONES * CONNECTIONS;
const NEIGHBOUR = 1000;
const CHILD = join(__dirname, '..', 'support', 'waiting-child.js');
const PATIENCE_MS = 120_000;
const KIB_EACH = 4;
/** Telling all of a change takes about what it takes to answer a GET of each; and a change is found in time. */
const TIMES_GET = 3;
const FOUND_MS = 1000;

function mostDescriptors(): number {
  const { stdout } = spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' });
  return stdout.trim() === 'unlimited' ? Infinity : Number(stdout);
}

describe(`${WAITING} watches that wait in ${ZONES} zones`, function () {
  this.timeout(300_000);
  let cn: SimulatedNode;
  let neighbour: Neighbour;
  let guests: ChildProcess;
  let exited: Promise<unknown>;

  before(async function () {
    const vms = Array.from({ length: ZONES }, (_, index) => {
      return osZone(index, { customer_metadata: { colour: 'red' } });
    });
    cn = await SimulatedNode.start(this, { vms: [...vms, osZone(NEIGHBOUR)], canaries: false });
    neighbour = await Neighbour.at(cn.socket(NEIGHBOUR), uuidOf(NEIGHBOUR));
    guests = fork(CHILD, [String(CONNECTIONS), 'colour'], {
      ...{ execArgv: [], stdio: ['pipe', 'inherit', 'inherit', 'ipc'] },
    });
    exited = once(guests, 'exit');
    guests.stdin?.end(vms.map((_, index) => cn.socket(index)).join('\n'));
    assert.strictEqual(await said(), 'ready');
  });

  after(async () => {
    try {
      guests.kill('SIGKILL');
      await exited;
      await neighbour.leave();
    } finally {
      await cn.stop();
    }
  });

  async function said(): Promise<unknown> {
    const word = once(guests, 'message').then(([text]) => text as unknown);
    const ended = exited.then(() => assert.fail('the guests have ended: one was not served'));
    return within(Promise.race([word, ended]), PATIENCE_MS, 'a word of the guests');
  }

  /** All of them ask at once. @returns how long it took until each had its answer, ms */
  function all(word: 'get' | 'watch' | 'wait'): Promise<number> {
    guests.send(word);
    return said().then(Number);
  }

  async function waiting(): Promise<number | undefined> {
    const { text } = await askAdmin(cn.root, '/metrics');
    return sampleOf(parseExposition(text), 'mdatad_watches_waiting', {});
  }

  /** All files are replaced at one moment. */
  function change(colour: string): void {
    const text = JSON.stringify({ customer_metadata: { colour }, internal_metadata: {} });
    for (let index = 0; index < ZONES; index++) {
      writeFileSync(cn.config(index, 'next'), text);
    }
    for (let index = 0; index < ZONES; index++) {
      renameSync(cn.config(index, 'next'), cn.config(index, 'metadata.json'));
    }
  }

  it('are told of a change of all zones about as fast as each is answered a GET, and cost 4 KiB each at most', async () => {
    // The heap has its size when all have asked twice.
    await all('watch');
    await all('watch');
    await all('get');
    const before = cn.rssMib;
    const told = all('wait');
    told.catch(() => undefined);
    await eventually(async () => (await waiting()) === WAITING, 'all wait', PATIENCE_MS);
    const kib = (1024 * (cn.rssMib - before)) / WAITING;
    assert(kib < KIB_EACH, `${kib.toFixed(2)} KiB each`);
    await neighbour.isServedDuring(() => delay(1000));
    change('blue');
    const began = performance.now();
    await told;
    const toldMs = performance.now() - began;
    const getMs = await all('get');
    assert(toldMs < FOUND_MS + TIMES_GET * getMs, `${toldMs} ms, GETs ${getMs} ms`);
    assert.strictEqual(await waiting(), 0);
  });

  it('take about the processor time of as many requests when they wait again and again, and leave nothing', async () => {
    const descriptors = cn.descriptors;
    await all('watch');
    const beforeGets = cn.cpuMs;
    await all('get');
    await all('get');
    const getsMs = cn.cpuMs - beforeGets;
    const beforeWaits = cn.cpuMs;
    for (const colour of ['green', 'red']) {
      const told = all('wait');
      told.catch(() => undefined);
      await eventually(async () => (await waiting()) === WAITING, 'all wait', PATIENCE_MS);
      change(colour);
      await told;
      await all('watch');
    }
    // Each time three requests: the wait, its answer and the next token.
    const ms = cn.cpuMs - beforeWaits;
    assert(ms < 3 * TIMES_GET * getsMs, `${ms} ms of the processor, GETs ${getsMs} ms`);
    assert(cn.descriptors <= descriptors, `${cn.descriptors} descriptors, ${descriptors} before`);
    guests.kill('SIGKILL');
    await eventually(
      async () => (await cn.answers(0)) && cn.descriptors < descriptors - WAITING + 64,
      'all are gone',
      PATIENCE_MS,
    );
  });
});
