/*
 * A guest's serial port on the real agent: no answer before the data is there, other programs on the line,
 * and noise around every request.
 */
import assert from 'node:assert';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { bestMs } from '../support/best-of';
import { eventually } from '../support/eventually';
import { frame, readFrame } from '../support/frames';
import { portConnections } from '../support/guest-port';
import { Neighbour } from '../support/neighbour';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const GUEST = 0;
const OTHER = 1;
/** What a client waits for the first byte of an answer. */
const AT_ONCE_MS = 2000;
const PATIENCE_MS = 10_000;
const FLOOD_MS = 1500;
const NEXT_CLIENT_MS = 300;
/** An answer takes a few. */
const ANSWERED_MS = 200;

describe('a guest\u2019s serial port', function () {
  this.timeout(60_000);
  let cn: SimulatedNode;
  let port: Socket;
  let received = '';

  before(async function () {
    const vms = [
      osZone(GUEST, { brand: 'bhyve', customer_metadata: { motd: 'hello' } }),
      osZone(OTHER),
    ];
    cn = await SimulatedNode.start(this, { vms });
    port = connect(cn.node.path(`/zones/${uuidOf(GUEST)}/ttyb`));
    port.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
    port.on('error', () => undefined);
    await once(port, 'connect');
    await eventually(() => reset(), 'the agent is on the port');
  });

  after(async () => {
    port.destroy();
    await cn.stop();
  });

  /** One reset, as a client begins. What is written while nobody has the port is lost: try again. */
  async function reset(ms = 400): Promise<boolean> {
    received = '';
    port.write('\n');
    for (const end = performance.now() + ms; performance.now() < end && received === '';) {
      await delay(10);
    }
    return received.endsWith('invalid command\n');
  }

  async function get(key: string, noise = ''): Promise<{ code: string; text: string }> {
    received = '';
    port.write(Buffer.concat([Buffer.from(noise, 'latin1'), frame('0000000a', 'GET', key)]));
    await eventually(() => /0000000a [^\n]*\n$/.test(received), `an answer, not ${received}`, 8000);
    const line = received.slice(received.lastIndexOf('V2 '));
    const { id, code, payload } = readFrame(line);
    assert.strictEqual(id, '0000000a');
    return { code, text: payload.toString() };
  }

  it('is answered after NULs, half frames and junk of every kind', async () => {
    const half = frame('00000001', 'GET', 'motd');
    const noises = [
      '\0\0',
      'login: ',
      '\r\n\r\n',
      'V2 ',
      'V2 21 ',
      '\xff\xfe',
      'lV2 21 \0',
      '\n\n\n',
    ];
    for (let at = 1; at < half.length; at += 5) {
      noises.push(half.toString('latin1', 0, at));
    }
    for (const noise of noises) {
      assert(await reset(PATIENCE_MS));
      assert.deepStrictEqual(await get('motd', noise), { code: 'SUCCESS', text: 'hello' }, noise);
    }
  });

  it('whose client was killed in a frame answers the next one at once', async () => {
    const half = frame('00000001', 'PUT', 'a'.repeat(60)).subarray(0, 50);
    const wait = await bestMs(NEXT_CLIENT_MS, async () => {
      assert(await reset(PATIENCE_MS));
      port.write(half);
      // The next one is started, opens the port, and is silent for 100 ms as each client is.
      await delay(100);
      const start = performance.now();
      assert(await reset(PATIENCE_MS), 'the next client is answered');
      return performance.now() - start;
    });
    assert(wait < NEXT_CLIENT_MS, `${wait} ms`);
    assert.deepStrictEqual(await get('motd'), { code: 'SUCCESS', text: 'hello' });
  });

  it('has no answer before the VM is known, and then the right one, never "no such key"', async () => {
    await cn.fault('vminfod.down');
    await cn.agent.stop();
    await cn.startAgent();
    assert.strictEqual(await reset(), false, 'nobody is on the line while nothing is known');
    await cn.clearFaults();
    await eventually(() => reset(), 'the agent is back', 10_000);
    assert.deepStrictEqual(await get('motd'), { code: 'SUCCESS', text: 'hello' });
    assert.deepStrictEqual(await get('sdc:uuid'), { code: 'SUCCESS', text: uuidOf(GUEST) });
  });

  it('gets no answer to the rest of a frame whose beginning was lost while no client was connected', async () => {
    // cloud-init would take it for "no such key".
    const whole = frame('0000000c', 'GET', 'cloud-init:user-data');
    for (const lost of [1, 3, 10, 20, whole.indexOf('GET') + 1, whole.length - 12]) {
      await cn.agent.kill();
      port.write(whole.subarray(0, lost));
      await cn.startAgent();
      const zoneroot = cn.node.path(`/zones/${uuidOf(GUEST)}/root`);
      await eventually(() => portConnections(zoneroot).length > 0, 'the agent is on the port');
      received = '';
      port.write(whole.subarray(lost));
      await delay(ANSWERED_MS);
      assert.strictEqual(received, '', whole.toString('latin1', lost));
      assert(await reset(PATIENCE_MS));
      assert.deepStrictEqual(await get('motd'), { code: 'SUCCESS', text: 'hello' });
    }
  });

  it('with a login program on it is sent little, logged less, and free for a client at once', async () => {
    const wait = await bestMs(AT_ONCE_MS, async () => {
      const before = cn.agent.records.length;
      let replies = 0;
      const getty = (chunk: Buffer): void => {
        // It takes every line for a name, and asks for a password and a name again.
        const lines = chunk.toString('latin1').split('\n').length - 1;
        replies += lines;
        for (let n = 0; n < lines; n++) {
          port.write('Password: \nLogin incorrect\nconsole login: \n');
        }
      };
      port.on('data', getty);
      port.write('console login: \n');
      await delay(3000);
      port.off('data', getty);
      // 20 are tolerated, then one a second.
      assert(replies < 40, `${replies} answers in 3 s`);
      const reported = cn.agent.records.slice(before);
      assert(reported.length < 20, `${reported.length} records`);
      const start = performance.now();
      assert(await reset(PATIENCE_MS));
      assert.deepStrictEqual(await get('motd'), { code: 'SUCCESS', text: 'hello' });
      return performance.now() - start;
    });
    assert(wait < AT_ONCE_MS, `${wait} ms`);
    assert(await cn.answers(OTHER));
  });

  it('a terminal that echoes everything causes no endless exchange', async () => {
    let bytes = 0;
    const echo = (chunk: Buffer): void => {
      bytes += chunk.length;
      port.write(chunk);
    };
    port.on('data', echo);
    port.write('hello\n');
    await delay(2000);
    port.off('data', echo);
    assert(bytes < 2000, `${bytes} bytes in 2 s`);
    await eventually(() => reset(), 'a client gets through');
    assert.deepStrictEqual(await get('motd'), { code: 'SUCCESS', text: 'hello' });
  });

  for (const [what, bytes] of [
    ['junk without an end', 'junk without an end '],
    ['newlines', '\n'],
    ['NULs', '\0'],
    ['beginnings of frames', 'V2 21 433221a9 6f000004 GET \n'],
  ] as const) {
    it(`that is flooded with ${what} costs the other zones nothing`, async () => {
      const flood = Buffer.alloc(64 * 1024, bytes);
      const neighbour = await Neighbour.at(cn.socket(OTHER), uuidOf(OTHER));
      await neighbour.isServedDuring(async () => {
        for (const end = performance.now() + FLOOD_MS; performance.now() < end;) {
          if (!port.write(flood)) {
            await once(port, 'drain');
          }
        }
      });
      await neighbour.leave();
      await delay(1200);
      await eventually(() => reset(), 'a client gets through', 15_000);
      assert.deepStrictEqual(await get('motd'), { code: 'SUCCESS', text: 'hello' });
    });
  }
});
