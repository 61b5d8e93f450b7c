/*
 * WATCH, GETALL, PUTIF, DELETEIF and HELLO of a whole agent on a simulated node.
 */
import assert from 'node:assert';
import { cpSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isJsonObject, parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { ask } from '../../tools/simcn/control';
import { askAdmin } from '../support/admin';
import { bestOf } from '../support/best-of';
import { eventually } from '../support/eventually';
import { base64 } from '../support/frames';
import { quantile, type Answer, type GuestSession } from '../support/guest-session';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

/** The longest that a change may take to be told, ms. */
const TOLD_MS = 1000;

function keysOf(keys: readonly string[]): string {
  return keys.map((key) => ` ${base64(Buffer.from(key))}`).join('');
}

/** A WATCH; no key: of all. */
function watch(
  session: GuestSession,
  token: string,
  keys: readonly string[] = [],
  seconds = 30,
): Promise<Answer> {
  return session.ask('WATCH', `${seconds} ${token}${keysOf(keys)}`);
}

async function tokenOf(session: GuestSession, keys: readonly string[] = []): Promise<string> {
  const { code, text } = await watch(session, '-', keys);
  assert.strictEqual(code, 'SUCCESS', text);
  assert.match(text, /^[0-9a-f]{32}$/);
  return text;
}

function putIf(session: GuestSession, key: string, value: string, token: string): Promise<Answer> {
  return session.ask('PUTIF', `${keysOf([key]).slice(1)} ${base64(Buffer.from(value))} ${token}`);
}

function parsed(text: string): JsonObject {
  const object = parseJsonObject(text);
  assert(object !== undefined, text);
  return object;
}

async function hasEnded(answer: Promise<unknown>, ms: number): Promise<boolean> {
  return Promise.race([answer.then(() => true), delay(ms, false)]);
}

describe('a guest that waits for a change', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let guest: GuestSession;
  let other: GuestSession;

  before(async function () {
    const metadata = { customer_metadata: { colour: 'red', other: 'x' } };
    cn = await SimulatedNode.start(this, {
      vms: [osZone(0, metadata), osZone(1, { customer_metadata: {} }), osZone(2, metadata)],
      canaries: false,
    });
  });

  after(() => cn.stop());

  beforeEach(async () => {
    guest = await cn.open(0);
    other = await cn.open(0);
  });

  afterEach(() => {
    guest.close();
    other.close();
  });

  function edit(customer: Record<string, unknown>): void {
    const text = JSON.stringify({ customer_metadata: customer, internal_metadata: {} });
    cn.replaceConfig(0, 'metadata.json', text);
  }

  it('is answered at once without a token, and with another one', async () => {
    const token = await tokenOf(guest, ['colour']);
    assert.strictEqual((await watch(guest, 'another', ['colour'])).text, token);
    assert.strictEqual(await tokenOf(other, ['colour']), token);
    assert.notStrictEqual(await tokenOf(other, ['other']), token);
  });

  it('gets the same token after its time', async () => {
    const token = await tokenOf(guest, ['colour']);
    const { text, ms } = await watch(guest, token, ['colour'], 1);
    assert.strictEqual(text, token);
    assert(ms >= 999, `${ms}`);
  });

  it('is answered after a PUT, and not after one to another key', async () => {
    const token = await tokenOf(guest, ['colour', 'absent']);
    const waiting = watch(guest, token, ['absent', 'colour']);
    await other.put('other', 'y');
    assert.strictEqual(await hasEnded(waiting, 300), false);
    const before = performance.now();
    await other.put('absent', 'here');
    assert.notStrictEqual((await waiting).text, token);
    assert(performance.now() - before < TOLD_MS);
    await other.remove('absent');
  });

  it('is answered after an edited file, changed tags or routes, and a vmadm update', async () => {
    await cn.fault('vminfod.freeze', 0);
    const keys = ['colour', 'sdc:tags.role', 'sdc:routes'];
    const times: number[] = [];
    for (let n = 0; n < 8; n++) {
      const token = await tokenOf(guest, keys);
      const waiting = watch(guest, token, keys);
      assert.strictEqual(await hasEnded(waiting, 150 + 10 * n), false);
      const before = performance.now();
      if (n % 4 === 0) {
        cn.replaceConfig(0, 'tags.json', JSON.stringify({ role: `r${n}` }));
      } else if (n % 4 === 1) {
        cn.replaceConfig(0, 'routes.json', JSON.stringify({ '10.0.0.0/8': `10.0.0.${n}` }));
      } else {
        edit({ colour: `c${n}`, other: 'x' });
      }
      assert.notStrictEqual((await waiting).text, token);
      times.push(performance.now() - before);
    }
    assert(quantile(times, 0.99) < TOLD_MS, times.join(' '));
    await cn.clearFaults();
    const token = await tokenOf(guest, ['colour']);
    const waiting = watch(guest, token, ['colour']);
    const update = cn.node.vmadm(
      ['update', uuidOf(0)],
      JSON.stringify({ set_customer_metadata: { colour: 'vmadm' } }),
    );
    assert.notStrictEqual((await waiting).text, token);
    assert.strictEqual((await update).status, 0);
  });

  /** From a change to the answer of who waits for it, ms. @param change resolves when the file is there */
  async function toldAfter(
    session: GuestSession,
    keys: readonly string[],
    change: () => Promise<void> | void,
  ): Promise<number> {
    const token = await tokenOf(session, keys);
    let at = Infinity;
    const waiting = watch(session, token, keys).then(({ text }) => {
      assert.notStrictEqual(text, token);
      at = performance.now();
    });
    assert.strictEqual(await hasEnded(waiting, 150), false);
    await change();
    const changedAt = performance.now();
    await waiting;
    return Math.max(0, at - changedAt);
  }

  it('is told within a second of what vmadm writes while vminfod is frozen', async () => {
    let n = 0;
    const ms = await bestOf(TOLD_MS, async () => {
      await cn.fault('vminfod.freeze', 0);
      const colour = `vmadm${n++}`;
      let update: Promise<unknown> = Promise.resolve();
      const told = await toldAfter(guest, ['colour'], async () => {
        const text = JSON.stringify({ set_customer_metadata: { colour } });
        update = cn.node.vmadm(['update', uuidOf(0)], text);
        await eventually(() => cn.metadata(0).customer.colour === colour, 'it writes', 20_000);
      });
      // It waits for vminfod, which says nothing.
      await cn.clearFaults();
      await update;
      return told;
    });
    assert(ms < TOLD_MS, `${ms} ms`);
  });

  it('is told within a second of a migration, which replaces the directory of its files, with vminfod frozen', async () => {
    await cn.fault('vminfod.freeze', 2);
    const session = await cn.open(2);
    const directory = cn.config(2);
    const [here, away] = [`${directory}.here`, `${directory}.away`];
    const text = JSON.stringify({ customer_metadata: { colour: 'moved' }, internal_metadata: {} });
    cpSync(directory, here, { recursive: true });
    writeFileSync(join(here, 'metadata.json'), text);
    const ms = await bestOf(TOLD_MS, () =>
      toldAfter(session, ['colour'], () => {
        renameSync(directory, away);
        renameSync(here, directory);
        renameSync(away, here);
      }),
    );
    assert(ms < TOLD_MS, `${ms} ms`);
    rmSync(here, { recursive: true });
    session.close();
    await cn.clearFaults();
  });

  it('of all keys is answered after a new and after a deleted key', async () => {
    edit({ a: '1' });
    const token = await tokenOf(guest);
    const waiting = watch(guest, token);
    edit({ a: '1', b: '2' });
    const next = (await waiting).text;
    assert.notStrictEqual(next, token);
    const again = watch(guest, next);
    edit({ a: '1' });
    assert.strictEqual((await again).text, token);
  });

  it('is answered with the current token, in order, by its next request', async () => {
    edit({ colour: 'red' });
    const token = await tokenOf(guest, ['colour']);
    const waiting = watch(guest, token, ['colour']);
    const got = guest.get('colour');
    assert.strictEqual((await waiting).text, token);
    assert.strictEqual((await got).text, 'red');
    const first = watch(guest, token, ['colour']);
    const second = watch(guest, token, ['colour']);
    assert.strictEqual((await first).text, token);
    assert.strictEqual(await hasEnded(second, 200), false);
    await other.put('colour', 'blue');
    assert.notStrictEqual((await second).text, token);
  });

  it('keeps its token over a restart of the agent', async () => {
    const metadata = { customer_metadata: { big: 'x'.repeat(300_000) }, internal_metadata: {} };
    cn.replaceConfig(2, 'metadata.json', JSON.stringify(metadata));
    const before = await cn.open(2);
    const token = await tokenOf(before);
    await cn.agent.stop();
    await cn.startAgent();
    const after = await cn.open(2);
    assert.strictEqual(await tokenOf(after), token);
    after.close();
  });

  it('keeps its token over a migration and a reprovision that do not change its data', async () => {
    const keys = ['colour', 'sdc:image_uuid'];
    const metadata = { customer_metadata: { colour: 'red' }, internal_metadata: {} };
    cn.replaceConfig(1, 'metadata.json', JSON.stringify(metadata));
    const before = await cn.open(1);
    const token = await tokenOf(before, keys);
    const still = watch(before, token, keys);
    // A migration leaves the same metadata in a file of its own.
    cn.replaceConfig(1, 'metadata.json', JSON.stringify(metadata, null, 2));
    assert.strictEqual(await hasEnded(still, 500), false);
    before.close();
    await ask(cn.root, 'reprovision', { uuid: uuidOf(1) });
    const after = await cn.open(1);
    assert.strictEqual(await tokenOf(after, keys), token);
    const moved = watch(after, token, keys);
    const changed = { ...metadata, customer_metadata: { colour: 'blue' } };
    cn.replaceConfig(1, 'metadata.json', JSON.stringify(changed));
    const next = (await moved).text;
    assert.notStrictEqual(next, token);
    const provisioned = watch(after, next, keys);
    const properties = { image_uuid: '01234567-89ab-4cde-8f01-23456789abcd' };
    await ask(cn.root, 'set', { uuid: uuidOf(1), properties });
    assert.notStrictEqual((await provisioned).text, next);
    after.close();
  });

  it('writes only over what it has seen', async () => {
    edit({ colour: 'red' });
    const token = await tokenOf(guest, ['colour']);
    assert.strictEqual((await putIf(guest, 'colour', 'blue', token)).code, 'SUCCESS');
    const refused = await putIf(other, 'colour', 'green', token);
    const current = await tokenOf(guest, ['colour']);
    assert.deepStrictEqual([refused.code, refused.text], ['FAILURE', `Changed ${current}`]);
    assert.strictEqual((await guest.get('colour')).text, 'blue');
    assert.strictEqual((await putIf(guest, 'lock', 'me', '-')).code, 'SUCCESS');
    assert.match((await putIf(other, 'lock', 'me', '-')).text, /^Changed [0-9a-f]{32}$/);
    const [, lock = ''] = (await putIf(other, 'lock', 'me', '-')).text.split(' ');
    const removeIf = (key: string, with_: string): Promise<Answer> =>
      guest.ask('DELETEIF', `${keysOf([key]).slice(1)} ${with_}`);
    assert.match((await removeIf('lock', token)).text, /^Changed /);
    assert.strictEqual((await removeIf('lock', lock)).code, 'SUCCESS');
    assert.strictEqual((await removeIf('lock', '-')).code, 'SUCCESS');
    assert.strictEqual((await guest.get('lock')).code, 'NOTFOUND');
  });

  it('loses no increment of many clients that count in the same key', async () => {
    const guests = await Promise.all(Array.from({ length: 8 }, () => cn.open(1)));
    let tries = 0;
    await Promise.all(
      guests.map(async (one) => {
        for (let done = 0; done < 3;) {
          const token = await tokenOf(one, ['count']);
          const count = Number((await one.get('count')).text || '0');
          tries++;
          const { code, text } = await putIf(one, 'count', String(count + 1), token);
          assert(code === 'SUCCESS' || text.startsWith('Changed '), text);
          done += code === 'SUCCESS' ? 1 : 0;
        }
        one.close();
      }),
    );
    const last = await cn.open(1);
    assert.strictEqual((await last.get('count')).text, '24', `${tries} tries`);
    last.close();
  });

  it('reads with GETALL what KEYS and GET return, small and large', async () => {
    for (const more of ['', 'x\u0001"\ud83d\ude00'.repeat(60_000)]) {
      edit({ colour: 'red', more, number: 5, object: { a: 1 }, none: null });
      const { code, text } = await guest.ask('GETALL', '');
      assert.strictEqual(code, 'SUCCESS');
      const all = parsed(text);
      const { sdc } = all;
      assert(isJsonObject(sdc));
      assert.strictEqual(all.token, await tokenOf(guest));
      assert.deepStrictEqual(all.metadata, { colour: 'red', more, number: '5' });
      assert.strictEqual(sdc.uuid, uuidOf(0));
      assert.strictEqual(sdc.alias, 'zone0');
      assert.strictEqual(sdc.vnc_password, undefined);
      for (const [name, value] of Object.entries(sdc)) {
        assert.strictEqual((await guest.get(`sdc:${name}`)).text, value, name);
      }
    }
  });

  it('is refused a GETALL that would be too large', async () => {
    edit({ big: 'x'.repeat(5 * 1024 * 1024) });
    const { code, text } = await guest.ask('GETALL', '');
    assert.deepStrictEqual([code, text], ['FAILURE', 'Too large']);
    // The watch of such a file works all the same.
    const token = await tokenOf(guest);
    const waiting = watch(guest, token);
    edit({ big: 'y'.repeat(5 * 1024 * 1024) });
    assert.notStrictEqual((await waiting).text, token);
    edit({});
  });

  it('can ask for the agent\u2019s features', async () => {
    const { code, text } = await guest.ask('HELLO', '');
    assert.strictEqual(code, 'SUCCESS');
    const { agent, verbs, limits } = parsed(text);
    assert.strictEqual(agent, 'mdatad');
    assert(Array.isArray(verbs) && verbs.includes('WATCH'));
    assert(isJsonObject(limits));
    assert.strictEqual(limits.line, 2 * 1024 * 1024);
    const longest = await cn.open(2);
    const value = 'v'.repeat(Number(limits.value));
    assert.strictEqual((await longest.put('k'.repeat(1024), value)).code, 'SUCCESS');
    longest.close();
  });

  it('is not closed as idle while it waits, and closing it ends the wait', async () => {
    const sessions = await Promise.all(Array.from({ length: 60 }, () => cn.open(2)));
    const token = await tokenOf(sessions[0] ?? guest, ['colour']);
    const waiting = sessions.map((session) => watch(session, token, ['colour']));
    waiting.forEach((answer) => void answer.catch(() => undefined));
    await delay(300);
    const { requests } = parsed((await askAdmin(cn.root, '/status')).text);
    assert(isJsonObject(requests));
    assert.strictEqual(requests.waitingWatches, 60);
    sessions.forEach((session) => session.close());
  });
});
