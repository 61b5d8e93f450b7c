import assert from 'node:assert';
import { ConnectionWorld, quiet } from '../support/connections';
import { eventually } from '../support/eventually';
import { frame, putFrame } from '../support/frames';
import { Peer } from '../support/peer';

describe('a connection to a serial port', () => {
  let world = new ConnectionWorld();
  afterEach(() => world.end());

  beforeEach(() => {
    world = new ConnectionWorld();
  });

  it('answers a newline a second after an unfinished line as a reset', async () => {
    for (const left of ['V2 21 433221a9 6f000', 'GET k', 'garbage', 'x'.repeat(100)]) {
      const dropped: number[] = [];
      const { peer } = await world.openPort((bytes) => dropped.push(bytes));
      const before = world.recorder.receivedBytes;
      peer.write(left);
      await eventually(() => world.recorder.receivedBytes === before + left.length);
      world.later += 1000;
      assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n', left);
      assert.deepStrictEqual(dropped, [left.length]);
      assert.strictEqual(await peer.ask('GET k\n', 16), 'SUCCESS\nvalue\n.\n');
    }
  });

  it('answers it as a reset also behind the NULs of a port that is opened', async () => {
    const { peer } = await world.openPort();
    const left = 'V2 21 433221a9 6f000';
    for (const [n, opening] of ['\0', '\0\0\0'].entries()) {
      const before = world.recorder.receivedBytes;
      peer.write(left);
      await eventually(() => world.recorder.receivedBytes === before + left.length);
      world.later += 1000;
      if (n > 0) {
        // They may come by themselves.
        peer.write('\0');
        await eventually(() => world.recorder.receivedBytes === before + left.length + 1);
      }
      assert.strictEqual(await peer.ask(`${opening}\n`, 16), 'invalid command\n');
    }
  });

  it('answers a whole frame whose newline comes late', async () => {
    const { peer } = await world.openPort();
    const whole = frame('00000004', 'GET', 'k');
    peer.write(whole.subarray(0, -1));
    await eventually(() => world.recorder.receivedBytes === whole.length - 1);
    world.later += 5000;
    const answer = frame('00000004', 'SUCCESS', 'value').toString();
    assert.strictEqual(await peer.ask('\n', answer.length), answer);
  });

  it('does not answer a cut frame whose newline comes without a pause', async () => {
    const { peer } = await world.openPort();
    peer.write('V2 21 433221a9 6f000\n');
    await quiet();
    assert.strictEqual(peer.text, '');
  });

  it('answers the next client 100 ms after a frame that was cut anywhere', async () => {
    const cut = putFrame('00000004', 'a', 'some value');
    for (let at = 2; at < cut.length - 1; at++) {
      const { peer } = await world.openPort();
      const before = world.recorder.receivedBytes;
      peer.write(cut.subarray(0, at));
      await eventually(() => world.recorder.receivedBytes === before + at);
      world.later += 100;
      assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n', `after ${at} bytes`);
      peer.socket.destroy();
    }
    assert.strictEqual(world.pending.length, 0);
  });

  it('joins a newline after 100 ms to a line that is not a cut frame', async () => {
    const whole = frame('00000004', 'GET', 'k').subarray(0, -1);
    for (const [line, answer] of [
      [Buffer.from('GET k'), 'SUCCESS\nvalue\n.\n'],
      [whole, frame('00000004', 'SUCCESS', 'value').toString()],
    ] as const) {
      const { peer } = await world.openPort();
      const before = world.recorder.receivedBytes;
      peer.write(line);
      await eventually(() => world.recorder.receivedBytes === before + line.length);
      world.later += 100;
      assert.strictEqual(await peer.ask('\n', answer.length), answer);
      peer.socket.destroy();
    }
  });

  it('parses the last lines of a flood only, and answers the client behind it', async () => {
    const { peer } = await world.openPort();
    const answer = frame('00000004', 'SUCCESS', 'value').toString();
    peer.write(Buffer.concat([Buffer.alloc(32_000, '\n'), frame('00000004', 'GET', 'k')]));
    await eventually(() => peer.text.endsWith(answer));
    const resets = peer.text.split('invalid command\n').length - 1;
    assert.ok(resets < 1000, `${resets} answers`);
  });

  it('finds a frame behind NULs and junk at any offset', async () => {
    const request = frame('00000004', 'GET', 'k');
    const answer = frame('00000004', 'SUCCESS', 'value').toString();
    for (const junk of ['\0', '\0\0\0', 'login: ', '\r', 'V2 21 4332', '\xff\xfe']) {
      const { peer } = await world.openPort();
      const bytes = Buffer.concat([Buffer.from(junk, 'latin1'), request]);
      assert.strictEqual(await peer.ask(bytes, answer.length), answer, JSON.stringify(junk));
    }
  });

  it('answers the next request wherever a NUL is inserted in the one before', async () => {
    const request = frame('00000004', 'GET', 'k');
    const answer = frame('00000005', 'SUCCESS', 'value').toString();
    for (let at = 0; at <= request.length; at++) {
      const { peer } = await world.openPort();
      peer.write(Buffer.concat([request.subarray(0, at), Buffer.from([0]), request.subarray(at)]));
      peer.write(frame('00000005', 'GET', 'k'));
      await eventually(() => peer.text.endsWith(answer), `offset ${at}`);
      peer.socket.destroy();
    }
  });

  it('serves two clients that share the line, each after its own reset', async () => {
    const { peer } = await world.openPort();
    peer.write(putFrame('0000000a', 'a', '1'));
    await eventually(() => world.pending.length === 1);
    assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
    world.settle();
    assert.strictEqual(await peer.ask('NEGOTIATE V2\n', 6), 'V2_OK\n');
    const answer = frame('0000000b', 'SUCCESS', 'value').toString();
    assert.strictEqual(await peer.ask(frame('0000000b', 'GET', 'k'), answer.length), answer);
    assert.ok(!peer.text.includes('0000000a'));
  });

  for (const [name, first] of [
    ['V1', Buffer.from('junk\n')],
    ['V2', frame('00000001', 'login')],
  ] as const) {
    it(`stops answering a tty that echoes each ${name} reply`, async () => {
      const { peer } = await world.openPort();
      peer.socket.on('data', (chunk: Buffer) => peer.write(chunk));
      peer.write(first);
      await eventually(() => world.recorder.answers.length >= 20);
      await quiet();
      const answers = world.recorder.answers.length;
      assert.ok(answers >= 20 && answers <= 21, String(answers));
      const before = peer.receivedBytes;
      peer.socket.removeAllListeners('data');
      const client = new Peer(peer.socket);
      assert.strictEqual(await client.ask('\n', 16), 'invalid command\n');
      assert.ok(before > 0);
    });
  }

  it('answers bad lines once a second after twenty in a row', async () => {
    const { peer } = await world.openPort();
    peer.write('bad\n'.repeat(40));
    await peer.least(20 * 8);
    await quiet();
    assert.strictEqual(peer.receivedBytes, 20 * 8);
    await peer.least(21 * 8);
    await quiet();
    assert.strictEqual(peer.receivedBytes, 21 * 8);
  });

  it('drops a delayed reply when a client resets the line', async () => {
    const { peer, connection, closed } = await world.openPort();
    peer.write('bad\n'.repeat(21));
    await peer.least(20 * 8);
    assert.strictEqual(await peer.ask('NEGOTIATE V2\n', 6), 'V2_OK\n');
    peer.write('bad\n');
    assert.strictEqual((await peer.least(21 * 8 + 6)).slice(20 * 8), 'V2_OK\nFAILURE\n');
    connection.destroy();
    await closed;
  });

  it('never stops reading, holds little, and still answers a reset', async () => {
    const { peer } = await world.openPort();
    peer.write(putFrame('00000001', 'a', '1'));
    await eventually(() => world.pending.length === 1);
    const flood = Buffer.concat(
      Array.from({ length: 20_000 }, () => frame('00000001', 'GET', 'k')),
    );
    peer.write(flood);
    const whole = flood.length + putFrame('00000001', 'a', '1').length;
    await eventually(() => world.recorder.receivedBytes === whole);
    assert.ok(world.recorder.count('queue') > 0);
    assert.strictEqual(await peer.ask('\n', 16), 'invalid command\n');
  });

  it('closes when its hypervisor ends', async () => {
    const { peer, closed } = await world.openPort();
    peer.write(putFrame('00000001', 'a', '1'));
    await eventually(() => world.pending.length === 1);
    peer.socket.end();
    await closed;
  });
});
