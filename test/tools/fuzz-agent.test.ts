/*
 * The fuzzer of the whole agent: steps that showed a fault once are replayed, and it is made sure that it
 * would see one.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Broken, BOUNDS, SHORT_BOUNDS } from '../../tools/fuzz/agent/bounds';
import { checkPromises, settle } from '../../tools/fuzz/agent/inspect';
import { makeSteps } from '../../tools/fuzz/agent/make-steps';
import { replay, shorten, whyNoAgent } from '../../tools/fuzz/agent/run';
import { Stage } from '../../tools/fuzz/agent/stage';
import { keptSteps, parseSteps, printSteps, readSteps } from '../../tools/fuzz/agent/step';
import { CANARY, holdsCanary } from '../../tools/fuzz/agent/zones';
import { Random } from '../../tools/fuzz/random';
import { eventually } from '../support/eventually';
import { needs, needsRoot } from '../support/pending';
import { runProgram } from '../support/simcn';

const FUZZ = join(__dirname, '..', '..', 'tools', 'fuzz', 'main.js');
const ADMIN_SOCKET = 'var/run/mdatad/admin.sock';
const SEED = 20261121;
/** An answer that will not come is not waited for as long as one that may. */
const IMPATIENT = { ...SHORT_BOUNDS, answerMs: 1500 };

describe('the steps of the whole agent\u2019s fuzzer', () => {
  it('follow from the seed', () => {
    const make = (seed: number): string => printSteps(makeSteps(new Random(seed, 3), 400));
    assert.strictEqual(make(SEED), make(SEED));
    assert.notStrictEqual(make(SEED), make(SEED + 1));
  });

  it('are read back as they were printed', () => {
    const steps = makeSteps(new Random(SEED), 400);
    assert.strictEqual(new Set(steps.map((step) => step.kind)).size, 15, 'every kind comes');
    assert.deepStrictEqual(parseSteps(printSteps(steps)), steps);
  });

  it('are made as few as show the fault', async () => {
    const all = Array.from({ length: 150 }, (_, n) => n);
    const fails = (some: readonly number[]): Promise<boolean> => {
      return Promise.resolve(some.includes(17) && some.includes(101));
    };
    assert.deepStrictEqual(await shorten(all, fails, Infinity), [17, 101]);
    assert.deepStrictEqual(await shorten(all, fails, 0), all, 'not past its time');
  });

  it('plant a canary that is found in each of its forms', () => {
    for (const lead of ['', 'a', 'ab', 'abc']) {
      const bytes = Buffer.from(`${lead}${CANARY} 7`);
      assert(holdsCanary(bytes.toString()));
      assert(holdsCanary(bytes.toString('hex')));
      assert(holdsCanary(bytes.toString('base64')));
    }
    assert(!holdsCanary('canary'));
  });
});

describe('the whole agent under steps that showed a fault once', function () {
  this.timeout(300_000);

  before(function () {
    needs(this, whyNoAgent());
  });

  for (const name of keptSteps()) {
    it(`keeps what it promises: ${name}`, async () => {
      assert.strictEqual(await replay(readSteps(name)), null);
    });
  }
});

describe('the whole agent\u2019s fuzzer', function () {
  this.timeout(300_000);
  let stage: Stage;

  before(async function () {
    needs(this, whyNoAgent());
    stage = new Stage(new Set());
    await stage.start();
  });

  after(async () => {
    await stage.stop();
    assert(!readFileSync('/proc/self/mounts', 'utf8').includes(stage.node.root));
    const left = readdirSync(tmpdir()).filter((name) => name.startsWith(basename(stage.node.root)));
    assert.deepStrictEqual(left, []);
  });

  it('reports no fault of a healthy agent', async () => {
    assert((await checkPromises(stage, BOUNDS)) < BOUNDS.answerMs);
    await settle(stage, BOUNDS);
  });

  it('reports an acknowledged write that is not in the file', async () => {
    const writer = stage.writers.get(0);
    const path = join(stage.node.configOf(0), 'metadata.json');
    assert.strictEqual(await writer?.confirm(BOUNDS.answerMs), true);
    const before = readFileSync(path);
    const file = JSON.parse(before.toString()) as { customer_metadata: { motd: string } };
    const { motd } = file.customer_metadata;
    writeFileSync(path, JSON.stringify({ ...file, customer_metadata: { motd } }));
    await assert.rejects(checkPromises(stage, BOUNDS), (err) => {
      return err instanceof Broken && err.message.includes('was promised');
    });
    writeFileSync(path, before);
    await checkPromises(stage, BOUNDS);
  });

  it('reports a wrong answer', async () => {
    const path = join(stage.node.configOf(1), 'metadata.json');
    const before = readFileSync(path, 'latin1');
    writeFileSync(path, before.replace('"hello"', '"hullo"'));
    await assert.rejects(checkPromises(stage, BOUNDS), /healthy zone 1$/);
    writeFileSync(path, before);
    await checkPromises(stage, BOUNDS);
  });

  it('reports an agent that hangs', async () => {
    stage.agent.signal('SIGSTOP');
    await assert.rejects(
      checkPromises(stage, IMPATIENT),
      /admin socket, the port .* zone 0, .* zone 1$/,
    );
    stage.agent.signal('SIGCONT');
    await checkPromises(stage, BOUNDS);
  });

  it('reports an agent that ended', async () => {
    const { agent } = stage;
    agent.signal('SIGKILL');
    await eventually(() => {
      try {
        agent.assertWell();
        return false;
      } catch (err) {
        assert(err instanceof Broken);
        return err.message.startsWith('the agent ended with SIGKILL');
      }
    }, 'the end is noticed');
  });
});

describe('npm run fuzz', function () {
  this.timeout(300_000);
  let temp: string;

  before(function () {
    needs(this, whyNoAgent());
    temp = mkdtempSync(join(tmpdir(), 'fz'));
  });

  after(() => {
    rmSync(temp, { recursive: true });
  });

  async function fuzz(
    argv: readonly string[],
    signal: NodeJS.Signals | null = null,
  ): Promise<readonly [number | null, string]> {
    const child = spawn(process.execPath, [FUZZ, ...argv], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, TMPDIR: temp },
    });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    if (signal !== null) {
      const up = (): boolean => {
        return readdirSync(temp).some((name) => existsSync(join(temp, name, ADMIN_SOCKET)));
      };
      await eventually(up, 'the agent is up', 60_000);
      child.kill(signal);
    }
    const [status] = (await once(child, 'close')) as [number | null];
    return [status, said];
  }

  function assertNothingLeft(): void {
    assert.deepStrictEqual(readdirSync(temp), []);
    assert(!readFileSync('/proc/self/mounts', 'utf8').includes(temp));
  }

  it('runs rounds from a seed, prints its statistics, and leaves nothing behind', async () => {
    const argv = ['--target', 'agent', '--seconds', '2', '--seed', String(SEED)];
    const [status, said] = await fuzz(argv);
    assert.strictEqual(status, 0, said);
    assert.match(said, /^seed 20261121\nagent: [0-9]+ steps? in [1-9][0-9]* rounds?, .*\n$/);
    assertNothingLeft();
  });

  it('replays a file of steps', async () => {
    const path = join(temp, 'steps.json');
    writeFileSync(path, printSteps([{ kind: 'write', zone: 0, count: 3 }]));
    const [status, said] = await fuzz(['--replay', path]);
    rmSync(path);
    assert.deepStrictEqual([status, said], [0, 'nothing was broken\n']);
    assertNothingLeft();
  });

  it('takes everything down on SIGTERM', async () => {
    const [status] = await fuzz(['--target', 'agent', '--seconds', '600'], 'SIGTERM');
    assert.strictEqual(status, 1);
    assertNothingLeft();
  });

  it('succeeds without the whole agent where none can be simulated, but not in CI', async function () {
    needsRoot(this);
    const nobody = ['--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--'];
    const fuzz = [process.execPath, FUZZ, '--target', 'agent', '--seconds', '1', '--seed', '1'];
    const left = 'seed 1\nagent: left out, an ordinary user cannot mount';
    for (const [ci, status, said] of [
      [[], 0, `${left}\n`],
      [['CI=1'], 1, `${left}; in CI it must not be\n`],
    ] as const) {
      const env = ['env', '-u', 'CI', 'NODE_V8_COVERAGE=', ...ci];
      const result = await runProgram([...env, 'setpriv', ...nobody, ...fuzz]);
      assert.deepStrictEqual([result.status, result.stdout], [status, said], result.stderr);
    }
  });
});
