/*
 * HVM guests of a simulated node, through the real agent: hypervisors that come, go, flap and lie.
 */
import assert from 'node:assert';
import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, unlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { own, ownString, type JsonObject } from '../../src/metadata/vm-data';
import { bindZoneEvents, type RawZoneEvent } from '../../src/platform/zone-events';
import { ask } from '../../tools/simcn/control';
import { Ttyb } from '../../tools/simcn/ttyb';
import { bestMs } from '../support/best-of';
import { eventually } from '../support/eventually';
import { base64, frame, putFrame, readFrame } from '../support/frames';
import { AgentProcess } from '../support/guest-agent';
import { portConnections } from '../support/guest-port';
import { quantile } from '../support/guest-session';
import { GuestTty } from '../support/guest-tty';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

/** Since a connection is possible again. */
const RECONNECT_MS = 500;
/** The first byte of an answer is waited for so long by a client. */
const CLIENT_MS = 2000;
/** More than the longest wait between two attempts that nothing cuts short. */
const PATIENCE_MS = 15_000;
/** Long enough for ten attempts, if there were any. */
const ANY_TRY_MS = 1000;

const BHYVE = uuidOf(1);
const KVM = uuidOf(2);
const VICTIM = uuidOf(3);
const ELSEWHERE = uuidOf(4);
const NOWHERE = uuidOf(5);
const SHORT_LIVED = uuidOf(6);

function uuidOf(index: number): string {
  return `aaac8650-6f2b-4d0e-9a57-${index.toString(16).padStart(12, '0')}`;
}

function vm(uuid: string, brand: string, more: JsonObject = {}): JsonObject {
  return { uuid, brand, customer_metadata: { me: uuid }, ...more };
}

describe('an HVM guest on a node', function () {
  this.timeout(60_000);
  let node: SimNode;
  let agent: AgentProcess;
  let players: Ttyb[];
  let ttys: GuestTty[];

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({
      vms: [
        vm(BHYVE, 'bhyve'),
        vm(KVM, 'kvm'),
        vm(VICTIM, 'bhyve'),
        vm(ELSEWHERE, 'bhyve', { com2: 'socket,/var/run/mdata' }),
        vm(NOWHERE, 'bhyve', { com2: '/dev/zconsole' }),
        vm(SHORT_LIVED, 'bhyve'),
      ],
    });
    agent = await AgentProcess.start(node.root);
  });

  after(async () => {
    await agent.stop();
    await node.stop();
  });

  beforeEach(() => {
    players = [];
    ttys = [];
  });

  afterEach(async () => {
    for (const tty of ttys) {
      tty.close();
    }
    await Promise.all(players.map((player) => player.stop()));
    await ask(node.root, 'clear-faults');
  });

  function zoneroot(uuid: string): string {
    return node.path(`/zones/${uuid}/root`);
  }

  function portOf(uuid: string): string {
    return `${zoneroot(uuid)}/tmp/vm.ttyb`;
  }

  /** A hypervisor that counts, at the place of the zone's own. */
  function player(uuid: string): Ttyb {
    const made = new Ttyb({ path: portOf(uuid), kind: 'bhyve', zoneroot: zoneroot(uuid) });
    players.push(made);
    return made;
  }

  /** What the agent logged of a zone, from a place in its log on. */
  function recordsOf(uuid: string, from: number): JsonObject[] {
    return agent.records.slice(from).filter((record) => record.zonename === uuid);
  }

  function messagesOf(uuid: string, from: number): (string | undefined)[] {
    return recordsOf(uuid, from).map((record) => ownString(record, 'msg'));
  }

  async function fault(text: string, uuid: string): Promise<void> {
    await ask(node.root, 'fault', { text, zone: uuid });
  }

  /** A program in the guest opens the port and resets the line; it has it until it closes it. */
  async function ready(uuid: string): Promise<GuestTty> {
    const tty = await GuestTty.open(node, uuid);
    ttys.push(tty);
    await tty.reset(PATIENCE_MS);
    return tty;
  }

  async function update(uuid: string, me: string): Promise<void> {
    const changes = JSON.stringify({ set_customer_metadata: { me } });
    assert.strictEqual((await node.vmadm(['update', uuid], changes)).status, 0);
  }

  async function served(uuid: string): Promise<void> {
    const tty = await ready(uuid);
    assert.strictEqual(await tty.get('me', uuid), `SUCCESS\n${uuid}\n.\n`);
    tty.close();
  }

  for (const [what, uuid] of [
    ['bhyve', BHYVE],
    ['kvm', KVM],
    ['where com2 says', ELSEWHERE],
  ] as const) {
    it(`is served: ${what}`, () => served(uuid));
  }

  it('without a socket in com2 has no channel, which is logged once', () => {
    assert.deepStrictEqual(messagesOf(NOWHERE, 0), [
      'zone arrived',
      'VM has no serial port for metadata',
    ]);
  });

  it('is logged in the order of its boot', async () => {
    await ask(node.root, 'shutdown', { uuid: BHYVE });
    const from = agent.records.length;
    await ask(node.root, 'boot', { uuid: BHYVE });
    await served(BHYVE);
    await ask(node.root, 'reboot', { uuid: BHYVE, guest: true });
    await served(BHYVE);
    await eventually(() => messagesOf(BHYVE, from).includes('guest reconnected'));
    const reported = messagesOf(BHYVE, from).filter((msg) => !msg?.startsWith('handled'));
    // The word of the shutdown may come after it.
    assert.deepStrictEqual(reported.slice(reported.indexOf('guest connected')), [
      'guest connected',
      'first request answered',
      'guest disconnected',
      'guest reconnected',
    ]);
    const fields = recordsOf(BHYVE, from).flatMap((r) => own(r, 'after_ms') ?? []);
    assert.strictEqual(fields.length, 2);
    assert.ok(fields.every((ms) => typeof ms === 'number' && ms >= 0 && ms < 5000));
  });

  it('that reboots three times in a row is served after each reboot', async () => {
    for (let n = 0; n < 3; n++) {
      await ask(node.root, 'reboot', { uuid: BHYVE, guest: true });
    }
    await served(BHYVE);
    const latest = await bestMs(RECONNECT_MS, async () => {
      const [before] = portConnections(zoneroot(BHYVE));
      await ask(node.root, 'reboot', { uuid: BHYVE, guest: true });
      await eventually(() => {
        const [now] = portConnections(zoneroot(BHYVE));
        return now !== undefined && now !== before;
      }, 'a new connection');
      const ms = Date.now() - statSync(portOf(BHYVE)).ctimeMs;
      await served(BHYVE);
      return ms;
    });
    assert.ok(latest < RECONNECT_MS, `${latest} ms`);
  });

  it('in a boot loop logs little, and is served once it stays up', async () => {
    const from = agent.records.length;
    await fault('ttyb.flap=30', BHYVE);
    await served(BHYVE);
    const reported = messagesOf(BHYVE, from).filter((msg) => !msg?.startsWith('handled'));
    assert.ok(reported.length <= 8, JSON.stringify(reported));
    assert.ok(!reported.some((msg) => msg?.startsWith('another program')));
  });

  it('keeps its connection where its run before is freed late', async () => {
    let freed = false;
    const onEvent = ({ zonename, newstate }: RawZoneEvent): void => {
      freed ||= zonename === BHYVE && newstate === 'free';
    };
    const events = bindZoneEvents(onEvent, () => undefined, { root: node.root });
    await fault('events.late-free=1000', BHYVE);
    await ask(node.root, 'reboot', { uuid: BHYVE, guest: false });
    await served(BHYVE);
    const connections = portConnections(zoneroot(BHYVE));
    await eventually(() => freed, 'the event');
    await events.close();
    // The agent has acted on it when it has acted on one that came later.
    await ask(node.root, 'reboot', { uuid: VICTIM, guest: false });
    await served(VICTIM);
    assert.deepStrictEqual(portConnections(zoneroot(BHYVE)), connections);
    await served(BHYVE);
  });

  it('of kvm keeps its connection through a warm reboot', async () => {
    const before = portConnections(zoneroot(KVM));
    await ask(node.root, 'reboot', { uuid: KVM, guest: true });
    await served(KVM);
    assert.deepStrictEqual(portConnections(zoneroot(KVM)), before);
  });

  it('whose port another holds is asked at most once a second, with one warning', async () => {
    const from = agent.records.length;
    const holder = player(BHYVE);
    await holder.start();
    await holder.fault('held', 1);
    await fault('ttyb.held', BHYVE);
    await eventually(() => holder.connects > 0, 'a first try');
    const first = performance.now();
    await eventually(() => holder.connects >= 3, 'more attempts', PATIENCE_MS);
    const seconds = (performance.now() - first) / 1000;
    assert.ok(holder.connects <= 2 + seconds, `${holder.connects} attempts in ${seconds} s`);
    const warnings = recordsOf(BHYVE, from).filter((r) => Number(r.level) >= 40);
    const [warning] = warnings;
    assert.strictEqual(warnings.length, 1);
    assert.strictEqual(warning?.msg, 'serial port is in use by another process');
    assert.strictEqual(warning.zonename, BHYVE);
    await holder.fault('held', 0);
    await eventually(() => holder.connected, 'the agent has the port', PATIENCE_MS);
    await holder.stop();
    await ask(node.root, 'clear-faults');
    await ask(node.root, 'reboot', { uuid: BHYVE, guest: true });
    await served(BHYVE);
  });

  it('that is stopped while the agent dials is no longer dialled', async () => {
    await fault('ttyb.held', BHYVE);
    rmSync(portOf(BHYVE));
    await ask(node.root, 'shutdown', { uuid: BHYVE });
    const late = player(BHYVE);
    await late.start();
    await delay(ANY_TRY_MS);
    assert.strictEqual(late.connects, 0);
    await late.stop();
    await ask(node.root, 'clear-faults');
    await ask(node.root, 'boot', { uuid: BHYVE });
    await served(BHYVE);
  });

  it('that is destroyed while the agent dials is no longer dialled', async () => {
    await fault('ttyb.held', SHORT_LIVED);
    rmSync(portOf(SHORT_LIVED));
    await ask(node.root, 'destroy', { uuid: SHORT_LIVED });
    const late = player(SHORT_LIVED);
    await late.start();
    await delay(ANY_TRY_MS);
    assert.strictEqual(late.connects, 0);
    await late.stop();
    rmSync(node.path(`/zones/${SHORT_LIVED}`), { recursive: true });
  });

  it('whose hypervisor puts a link in the path never reaches another guest\u2019s port', async () => {
    const victims = portConnections(zoneroot(VICTIM));
    const from = agent.records.length;
    const tmp = `${zoneroot(BHYVE)}/tmp`;
    renameSync(tmp, `${tmp}.aside`);
    symlinkSync(`${zoneroot(VICTIM)}/tmp`, tmp);
    await fault('ttyb.held', BHYVE);
    await eventually(() => messagesOf(BHYVE, from).includes('cannot connect to the serial port'));
    const record = recordsOf(BHYVE, from).find((r) => Number(r.level) === 40);
    assert.match(JSON.stringify(record?.err), /ELOOP/);
    assert.deepStrictEqual(portConnections(zoneroot(VICTIM)), victims);
    unlinkSync(tmp);
    renameSync(`${tmp}.aside`, tmp);
    await ask(node.root, 'clear-faults');
    await served(BHYVE);
    await served(VICTIM);
  });

  it('keeps the effect of a PUT that was reset while it ran, without a reply', async () => {
    const tty = await ready(BHYVE);
    await fault('lock.held', BHYVE);
    const from = tty.peer.receivedBytes;
    const answers = `invalid command\nV2_OK\n`;
    tty.peer.write(putFrame('0000000a', 'late', 'kept'));
    assert.strictEqual(await tty.peer.ask('\nNEGOTIATE V2\n', answers.length), answers);
    await ask(node.root, 'clear-faults');
    // What the write did is in an answer soon; what it said is not.
    const value = (id: string): string | null => {
      const line = tty.peer.text
        .slice(from)
        .split('\n')
        .find((each) => each.includes(` ${id} `));
      return line === undefined ? null : readFrame(`${line}\n`).payload.toString();
    };
    let round = 0;
    await eventually(async () => {
      const id = (0x1000 + round++).toString(16).padStart(8, '0');
      tty.peer.write(frame(id, 'GET', 'late'));
      await eventually(() => value(id) !== null, 'an answer');
      return value(id) === 'kept';
    }, 'the effect of the PUT');
    assert.ok(!tty.peer.text.includes(' 0000000a '));
  });

  describe('that waits for a change on its port', () => {
    const watchOf = (id: string, token: string): Buffer => {
      return frame(id, 'WATCH', `300 ${token} ${base64(Buffer.from('me'))}`);
    };
    const reply = (id: string, token: string): string => frame(id, 'SUCCESS', token).toString();

    async function tokenOf(tty: GuestTty, id: string): Promise<string> {
      const bytes = reply(id, '0'.repeat(32)).length;
      const line = await tty.peer.ask(watchOf(id, '-'), bytes);
      return readFrame(line).payload.toString();
    }

    for (const [what, uuid] of [
      ['bhyve', BHYVE],
      ['kvm', KVM],
    ] as const) {
      it(`is answered after a vmadm update: ${what}`, async () => {
        const tty = await ready(uuid);
        const token = await tokenOf(tty, '000000a1');
        const changed = reply('000000a2', '0'.repeat(32)).length;
        const waiting = tty.peer.ask(watchOf('000000a2', token), changed);
        await update(uuid, 'changed');
        assert.notStrictEqual(readFrame(await waiting).payload.toString(), token);
        await update(uuid, uuid);
        assert.strictEqual(await tokenOf(tty, '000000a3'), token);
      });
    }

    it('has its wait ended by its next request or by a reset', async () => {
      const tty = await ready(BHYVE);
      const token = await tokenOf(tty, '000000b1');
      const all = reply('000000b2', token) + frame('000000b3', 'SUCCESS', BHYVE).toString();
      const both = Buffer.concat([watchOf('000000b2', token), frame('000000b3', 'GET', 'me')]);
      assert.strictEqual(await tty.peer.ask(both, all.length), all);
      tty.peer.write(watchOf('000000b4', token));
      await tty.reset(PATIENCE_MS);
      assert.strictEqual(await tokenOf(tty, '000000b5'), token);
      assert.ok(!tty.peer.text.includes(' 000000b4 '));
    });

    it('has the same token after a reboot', async () => {
      const before = await ready(BHYVE);
      const token = await tokenOf(before, '000000c1');
      before.close();
      await ask(node.root, 'reboot', { uuid: BHYVE, guest: true });
      assert.strictEqual(await tokenOf(await ready(BHYVE), '000000c2'), token);
    });
  });

  it('gets the right answer or none, whatever bytes are corrupted', async () => {
    const tty = await ready(BHYVE);
    const resets: number[] = [];
    const right = frame('0000000b', 'SUCCESS', BHYVE);
    const request = frame('0000000b', 'GET', 'me');
    for (const noise of ['\0', '\xff', 'x', '\n', 'V2 ', '\r']) {
      for (let at = 0; at <= request.length; at++) {
        const from = tty.peer.receivedBytes;
        const bytes = Buffer.from(noise, 'latin1');
        tty.peer.write(Buffer.concat([request.subarray(0, at), bytes, request.subarray(at)]));
        // A rest may stand before the first of them, so that a client sends another.
        const begin = performance.now();
        await tty.reset(PATIENCE_MS);
        resets.push(performance.now() - begin);
        const lines = tty.peer.text.slice(from).split('\n').slice(0, -1);
        const where = `${JSON.stringify(noise)} at ${at}: ${JSON.stringify(lines)}`;
        for (const line of lines) {
          // Behind a newline there may be a V1 line, such as `GET bWU=`.
          const known = [right.toString().trimEnd(), 'invalid command', 'FAILURE', 'NOTFOUND'];
          assert.ok(known.includes(line), where);
        }
        assert.strictEqual(await tty.peer.ask(request, right.length), right.toString(), where);
      }
    }
    const slow = quantile(resets, 0.99);
    assert.ok(slow < CLIENT_MS, `${slow} ms`);
  });

  it('gets complete data only, even if vminfod starts long after the agent', async () => {
    await agent.stop();
    await ask(node.root, 'fault', { text: 'vminfod.down', zone: null });
    agent = await AgentProcess.start(node.root);
    await delay(ANY_TRY_MS);
    for (const uuid of [BHYVE, KVM, VICTIM]) {
      assert.deepStrictEqual(portConnections(zoneroot(uuid)), []);
    }
    const asked = served(BHYVE);
    await ask(node.root, 'clear-faults');
    await asked;
    await served(KVM);
    const reported = (): JsonObject | undefined =>
      recordsOf(BHYVE, 0).find((record) => record.msg === 'guest connected');
    await eventually(() => reported() !== undefined, 'the connection is in the log');
    assert.strictEqual(reported()?.ran_before, true);
  });

  it('is served by an agent that was killed and restarted', async () => {
    await agent.kill();
    agent = await AgentProcess.start(node.root);
    await served(BHYVE);
    await served(ELSEWHERE);
    mkdirSync(`${zoneroot(NOWHERE)}/tmp`, { recursive: true });
    const late = player(NOWHERE);
    await late.start();
    await delay(ANY_TRY_MS);
    assert.strictEqual(late.connects, 0);
  });
});
