import assert from 'node:assert';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { GuestChannel } from '../../src/transport/guest-channel';
import { frame, readFrame } from '../support/frames';
import { tempDir, type TempDir } from '../support/temp-dir';

const NEVER = new AbortController().signal;
const MOTD = { kind: 'get', key: Buffer.from('motd') } as const;

describe('a guest channel', () => {
  let server: Server;
  let directory: TempDir;
  let path: string;
  let asked: string[];
  /** What is done with a request; the reset and the negotiation are answered. */
  let serve: (socket: Socket, id: string) => void;

  beforeEach(async () => {
    directory = tempDir();
    path = join(directory.path, 'socket');
    asked = [];
    serve = (socket, id) => socket.write(frame(id, 'SUCCESS', 'value'));
    server = createServer((socket) => {
      createInterface({ input: socket }).on('line', (line) => {
        asked.push(line.startsWith('V2 ') ? readFrame(`${line}\n`).code : line);
        if (line === '') {
          socket.write('invalid command\n');
        } else if (line === 'NEGOTIATE V2') {
          socket.write('V2_OK\n');
        } else {
          serve(socket, readFrame(`${line}\n`).id);
        }
      });
    }).listen(path);
    await once(server, 'listening');
  });

  afterEach(() => {
    server.close();
    directory.remove();
  });

  it('asks one thing after the other on one connection', async () => {
    const channel = await GuestChannel.open(path, NEVER);
    const found = { kind: 'success', data: Buffer.from('value') };
    assert.deepStrictEqual(await channel.ask(MOTD, NEVER), found);
    assert.deepStrictEqual(await channel.ask({ kind: 'keys' }, NEVER), found);
    assert.deepStrictEqual(asked, ['', 'NEGOTIATE V2', 'GET', 'KEYS']);
    channel.close();
  });

  it('says that it must be opened anew when the other side closes it, and when it is asked again', async () => {
    serve = (socket) => socket.end();
    const channel = await GuestChannel.open(path, NEVER);
    const closed = { kind: 'reopen', pauseMs: 0, reason: 'connection closed' };
    assert.deepStrictEqual(await channel.ask(MOTD, NEVER), closed);
    const again = await channel.ask(MOTD, NEVER);
    assert.strictEqual(again.kind, 'reopen');
  });

  it('says so when a reset is not answered in time', async () => {
    const silent = createServer(() => undefined).listen(`${path}.silent`);
    await once(silent, 'listening');
    const channel = await GuestChannel.open(`${path}.silent`, NEVER);
    const late = { kind: 'reopen', pauseMs: 1000, reason: 'receive timeout' };
    assert.deepStrictEqual(await channel.ask(MOTD, NEVER), late);
    channel.close();
    silent.close();
  });

  it('waits no longer than its caller', async () => {
    const limit = new AbortController();
    serve = () => limit.abort(new Error('long enough'));
    const channel = await GuestChannel.open(path, limit.signal);
    await assert.rejects(channel.ask(MOTD, limit.signal), /long enough/);
    await assert.rejects(GuestChannel.open(path, limit.signal), /long enough/);
    channel.close();
  });

  it('rejects with the error of connect', async () => {
    await assert.rejects(GuestChannel.open(`${path}.none`, NEVER), { code: 'ENOENT' });
  });
});
