/*
 * The agent is killed at each system call of a guest's write, just before it and just after: what guests were
 * promised by SUCCESS is there, the file is the old one or the new one, and nothing stays behind that the next write leaves.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { takeLock } from '../../src/platform/lock';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import {
  FailingCalls,
  makeUnlikeNew,
  whyNoFailingCalls,
  type Call,
} from '../support/failing-calls';
import type { GuestSession } from '../support/guest-session';
import { describeWhere } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const ZONE = 0;
/** Another process that wants the platform's lock has it by then. */
const LOCK_MS = 500;

const LOCK = `vm.${uuidOf(ZONE)}.config.lockfile$`;
const TEMP = `${uuidOf(ZONE)}/config/.metadata.json.mdatad`;
const FILE = `${uuidOf(ZONE)}/config/metadata.json$`;
const DIRECTORY = `${uuidOf(ZONE)}/config$`;

interface Step {
  readonly what: string;
  readonly call: Call;
  readonly path: string;
}

/** In their order. */
const STEPS: readonly Step[] = [
  { what: 'the opening of the lock', call: 'open', path: LOCK },
  { what: 'the lock', call: 'lock', path: LOCK },
  { what: 'the reading of the file', call: 'read', path: FILE },
  { what: 'the making of the temporary file', call: 'open', path: `${TEMP}$` },
  { what: 'its writing', call: 'write', path: `${TEMP}$` },
  { what: 'its owner', call: 'chown', path: `${TEMP}$` },
  { what: 'its mode', call: 'chmod', path: `${TEMP}$` },
  { what: 'its way to the disk', call: 'fsync', path: `${TEMP}$` },
  { what: 'its closing', call: 'close', path: `${TEMP}$` },
  { what: 'its renaming', call: 'rename', path: FILE },
  { what: 'the opening of the directory', call: 'open', path: DIRECTORY },
  { what: 'the sync of the directory', call: 'fsync', path: DIRECTORY },
  { what: 'the closing of the directory', call: 'close', path: DIRECTORY },
  { what: 'the release of the lock', call: 'close', path: LOCK },
];
const RENAMED = STEPS.findIndex(({ call }) => call === 'rename');

describeWhere(whyNoFailingCalls(), 'an agent that is killed in the middle of a write', function () {
  this.timeout(60_000);
  let calls: FailingCalls;
  let cn: SimulatedNode;
  /** What SUCCESS promised the guest. */
  const stored = new Map<string, string>();
  let round = 0;

  before(async function () {
    calls = new FailingCalls();
    const vms = [osZone(ZONE, { customer_metadata: { kept: 'as it was' } })];
    stored.set('kept', 'as it was');
    cn = await SimulatedNode.start(this, { vms, prefix: calls.prefix });
  });

  after(async () => {
    await cn.stop();
    calls.remove();
  });

  async function putAcknowledged(session: GuestSession, key: string, value: string): Promise<void> {
    const { code, text } = await session.put(key, value);
    assert.strictEqual(code, 'SUCCESS', text);
    stored.set(key, value);
  }

  /** A guest writes, and the agent dies of it. Only at the last step the guest has its answer before. */
  async function writeAndDie(step: Step, when: 'before' | 'after', value: string): Promise<void> {
    makeUnlikeNew(cn.config(ZONE, 'metadata.json'));
    const session = await cn.open(ZONE);
    const closed = once(session.socket, 'close');
    const hits = calls.kill(when, step.call, step.path);
    const answer = await session.put('dying', value).catch(() => null);
    await closed;
    assert.strictEqual(hits(), 1, `${step.call} is called`);
    calls.clear();
    if (answer !== null) {
      assert.strictEqual(answer.code, 'SUCCESS');
      stored.set('dying', value);
    }
  }

  /** What a predecessor's death must leave, and what the next write must not. */
  async function allIsWell(): Promise<void> {
    const { customer } = cn.metadata(ZONE);
    const lockFile = cn.node.path(`/var/run/vm.${uuidOf(ZONE)}.config.lockfile`);
    // This is another process than the agent.
    (await takeLock(lockFile, { timeoutMs: LOCK_MS })).release();
    const session = await cn.open(ZONE);
    for (const [key, value] of stored) {
      assert.strictEqual(customer[key], value, key);
      assert.strictEqual((await session.get(key)).text, value, key);
    }
    await putAcknowledged(session, `after${round}`, `round ${round}`);
    assert.strictEqual(cn.metadata(ZONE).customer[`after${round}`], `round ${round}`);
    assert.deepStrictEqual(temporaryFiles(), []);
    session.close();
  }

  for (const [n, step] of STEPS.entries()) {
    it(`at ${step.what} (${step.call}): nothing that was promised is lost, and a write leaves nothing behind`, async () => {
      for (const when of ['before', 'after'] as const) {
        round++;
        await eventually(noLockHeld, 'the write before is confirmed, its lock released');
        const before = stored.get('dying');
        const value = `${step.call} ${when} ${round}`;
        await writeAndDie(step, when, value);
        // Valid JSON, and the old file or the new one: which of them hangs on the renaming alone.
        const renamed = n > RENAMED || (n === RENAMED && when === 'after');
        const there = cn.metadata(ZONE).customer.dying;
        assert.strictEqual(there, renamed ? value : before);
        if (renamed) {
          // No reply was sent, but it is there, and so it stays.
          stored.set('dying', value);
        }
        await cn.startAgent();
        await allIsWell();
      }
    });
  }

  it('while it removes the file that a killed one left: the next one removes it', async () => {
    round++;
    await eventually(noLockHeld);
    for (const when of ['before', 'after'] as const) {
      writeFileSync(cn.config(ZONE, '.metadata.json.mdatad'), '{"customer_meta');
      await writeAndDie({ what: '', call: 'unlink', path: `${TEMP}$` }, when, `unlink ${when}`);
      assert.strictEqual(temporaryFiles().length, when === 'before' ? 1 : 0);
      await cn.startAgent();
      await allIsWell();
    }
  });

  async function noLockHeld(): Promise<boolean> {
    return (await askAdmin(cn.root, '/status')).text.includes('"locksHeld":0');
  }

  function temporaryFiles(): string[] {
    return readdirSync(cn.config(ZONE)).filter((name) => name.includes('mdatad'));
  }
});
