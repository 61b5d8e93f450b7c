import assert from 'node:assert';
import { ClientSession, encodeV2 } from '../../src/protocol/client';
import type { Command, Step } from '../../src/protocol/client';
import { frame, putFrame } from '../support/frames';

const GET: Command = { kind: 'get', key: Buffer.from('motd') };
const REQUEST_1 = frame('00000001', 'GET', 'motd');
const REQUEST_2 = frame('00000002', 'GET', 'motd');

/** A session whose ids are 00000001, 00000002 ... */
function session(): ClientSession {
  let count = 0;
  return new ClientSession(() => String(++count).padStart(8, '0'));
}

function sent(step: Step): string {
  assert.strictEqual(step.kind, 'send');
  return step.bytes.toString('latin1');
}

/** Brings a session to where its request was sent. */
function asking(): ClientSession {
  const client = session();
  client.ask(GET);
  client.receive(Buffer.from('invalid command\n'));
  client.receive(Buffer.from('V2_OK\n'));
  return client;
}

describe('client', () => {
  it("resets, negotiates and asks, with the waits of the platform's client", () => {
    const client = session();
    const steps = [
      client.ask(GET),
      client.receive(Buffer.from('invalid command\n')),
      client.receive(Buffer.from('V2_OK\n')),
    ];
    assert.deepStrictEqual(steps, [
      { kind: 'send', bytes: Buffer.from('\n'), waitMs: 2_000 },
      { kind: 'send', bytes: Buffer.from('NEGOTIATE V2\n'), waitMs: 6_000 },
      { kind: 'send', bytes: REQUEST_1, waitMs: 45_000 },
    ]);
  });

  it('parses answers cut at every byte', () => {
    const stream = Buffer.concat([
      Buffer.from('invalid command\nV2_OK\n'),
      frame('00000001', 'SUCCESS', '.hid\n'),
    ]);
    for (let at = 0; at <= stream.length; at++) {
      const client = session();
      client.ask(GET);
      const whole = [stream.subarray(0, at), stream.subarray(at)].flatMap((chunk) => {
        // A server answers only what was asked: what it sends comes line by line.
        const steps: Step[] = [];
        for (let from = 0; from < chunk.length;) {
          const lf = chunk.indexOf('\n', from);
          const end = lf < 0 ? chunk.length : lf + 1;
          steps.push(client.receive(chunk.subarray(from, end)));
          from = end;
        }
        return steps;
      });
      assert.deepStrictEqual(whole.at(-1), {
        kind: 'done',
        outcome: { kind: 'success', data: Buffer.from('.hid\n') },
      });
    }
  });

  it('begins anew after a pause when a reset is not answered as it should be', () => {
    for (const answer of ['FAILURE\n', 'NOTFOUND\n', ' invalid command\n', 'invalid command\r\n']) {
      const client = session();
      client.ask(GET);
      const step = client.receive(Buffer.from(answer));
      assert.strictEqual(step.kind === 'reopen' && step.pauseMs, 1_000);
      assert.strictEqual(sent(client.ask(GET)), '\n');
    }
  });

  it('sends a request that was not answered again with a new id', () => {
    for (const reason of ['receive timeout', 'connection closed'] as const) {
      const client = asking();
      const lost = client.lost(reason);
      assert.strictEqual(lost.kind === 'reopen' && lost.pauseMs, 0);
      client.ask(GET);
      client.receive(Buffer.from('invalid command\n'));
      assert.strictEqual(sent(client.receive(Buffer.from('V2_OK\n'))), REQUEST_2.toString());
    }
  });

  it('skips noise, broken frames and replies to other requests', () => {
    const client = asking();
    const wrongCrc = frame('00000001', 'SUCCESS', 'x').toString().replace('SUCCESS', 'SUCCESs');
    for (const line of ['FAILURE\n', 'login: \n', wrongCrc]) {
      assert.deepStrictEqual(client.receive(Buffer.from(line)), { kind: 'wait' });
    }
    const foreign = client.receive(frame('ffffffff', 'SUCCESS', 'x'));
    assert.deepStrictEqual(foreign, { kind: 'wait' });
    const step = client.receive(frame('00000001', 'NOTFOUND'));
    assert.deepStrictEqual(step, { kind: 'done', outcome: { kind: 'notfound' } });
  });

  it('gives the reason of a failure', () => {
    const step = asking().receive(frame('00000001', 'FAILURE', 'VM not found'));
    assert.deepStrictEqual(step, {
      kind: 'done',
      outcome: { kind: 'failure', text: 'VM not found' },
    });
  });

  it('asks one thing after the other on a channel', () => {
    const client = asking();
    client.receive(frame('00000001', 'NOTFOUND'));
    assert.strictEqual(sent(client.ask({ kind: 'keys' })), frame('00000002', 'KEYS').toString());
  });

  it('fails where the server does not speak V2, and resets before it asks again', () => {
    const client = session();
    client.ask(GET);
    client.receive(Buffer.from('invalid command\n'));
    const text = 'the metadata service does not speak version 2 of the protocol';
    assert.deepStrictEqual(client.receive(Buffer.from('FAILURE\n')), {
      kind: 'done',
      outcome: { kind: 'failure', text },
    });
    assert.strictEqual(sent(client.ask(GET)), '\n');
  });

  it('encodes each command as an independent builder does', () => {
    const key = Buffer.from('k\xff', 'latin1');
    const value = Buffer.from('v\0\xfe', 'latin1');
    assert.deepStrictEqual(encodeV2({ kind: 'get', key }, 'ab'), frame('ab', 'GET', key));
    assert.deepStrictEqual(encodeV2({ kind: 'keys' }, 'ab'), frame('ab', 'KEYS'));
    assert.deepStrictEqual(encodeV2({ kind: 'delete', key }, 'ab'), frame('ab', 'DELETE', key));
    assert.deepStrictEqual(encodeV2({ kind: 'put', key, value }, 'ab'), putFrame('ab', key, value));
  });
});
