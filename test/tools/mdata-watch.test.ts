/*
 * mdata-watch, mdata-dump and the options of tokens, as programs against a whole agent, and against one that knows
 * none of the new verbs.
 */
import assert from 'node:assert';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { askAdmin } from '../support/admin';
import { eventually } from '../support/eventually';
import { frame } from '../support/frames';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';

const TOOLS = join(__dirname, '..', '..', 'tools', 'mdata');

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

class Program {
  out = '';
  err = '';
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;

  constructor(socket: string, tool: string, args: readonly string[]) {
    const argv = [join(TOOLS, `${tool}.js`), '--socket', socket, ...args];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    child.stdout.on('data', (chunk: Buffer) => (this.out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (this.err += chunk.toString()));
    this.ended = Promise.all([once(child, 'close'), buffer(child.stdout)]).then(() => {
      return { code: child.exitCode, out: this.out, err: this.err };
    });
  }
}

describe('the mdata programs that wait and read all', function () {
  this.timeout(60_000);

  describe('with this agent', () => {
    let cn: SimulatedNode;
    const programs: Program[] = [];

    before(async function () {
      const vms = [osZone(0, { customer_metadata: { colour: 'red', a: '1' } })];
      cn = await SimulatedNode.start(this, { vms, canaries: false });
    });

    afterEach(async () => {
      programs.forEach(({ child }) => child.kill('SIGKILL'));
      await Promise.all(programs.splice(0).map(({ ended }) => ended));
    });

    after(() => cn.stop());

    function start(tool: string, ...args: readonly string[]): Program {
      const program = new Program(cn.socket(0), tool, args);
      programs.push(program);
      return program;
    }

    /** Resolves when so many programs wait. */
    async function waiting(count = 1): Promise<void> {
      await eventually(async () => {
        const { text } = await askAdmin(cn.root, '/status');
        return (
          text.includes(`"waitingWatches":${count},`) ||
          text.includes(`"waitingWatches": ${count},`)
        );
      }, `${count} wait`);
    }

    async function put(key: string, value: string): Promise<void> {
      const guest = await cn.open(0);
      assert.strictEqual((await guest.put(key, value)).code, 'SUCCESS');
      guest.close();
    }

    it('print each key that changes and its value', async () => {
      const program = start('watch', 'colour', 'other');
      await waiting();
      await put('other', 'two\nlines\n');
      await eventually(() => program.out === 'other\ntwo\nlines\n', 'the first change');
      await put('colour', 'blue');
      await eventually(() => program.out.endsWith('colour\nblue\n'), 'the second change');
      const guest = await cn.open(0);
      await guest.remove('other');
      guest.close();
      await eventually(() => program.err === "No metadata for 'other'\n", 'that it is gone');
    });

    it('run a command at each change, which need not succeed', async () => {
      const script = 'echo "$MDATA_KEYS" "${#MDATA_TOKEN}"; exit 7';
      const program = start('watch', 'colour', '--', 'sh', '-c', script);
      await waiting();
      await put('colour', 'green');
      await eventually(() => program.err.includes('sh ended with 7'), 'the command has ended');
      await put('colour', 'yellow');
      await eventually(() => program.out === 'colour 32\ncolour 32\n', 'it ran twice');
    });

    it('end after the first change, or when their time is over', async () => {
      const first = start('watch', '--once', 'colour');
      await waiting();
      await put('colour', 'white');
      assert.deepStrictEqual(await first.ended, { code: 0, out: 'colour\nwhite\n', err: '' });
      const second = start('watch', '-t', '1', 'absent');
      assert.deepStrictEqual(await second.ended, { code: 1, out: '', err: '' });
      const began = performance.now();
      const short = start('watch', '-t', '0.1', 'absent');
      const long = start('watch', '-t', '1.6', 'absent');
      assert.deepStrictEqual(await short.ended, { code: 1, out: '', err: '' });
      const shortMs = performance.now() - began;
      assert.strictEqual((await long.ended).code, 1);
      // Both start in the same time: a tenth of a second is not taken for a whole one.
      assert(performance.now() - began - shortMs > 1000, 'a fraction of a second is honoured');
    });

    it('refuse an invalid duration, and a missing key', async () => {
      assert.strictEqual((await start('watch', '-t', 'x', 'k').ended).code, 3);
      assert.strictEqual((await start('watch', '--', 'true').ended).code, 3);
      assert.strictEqual((await start('watch').ended).code, 3);
    });

    it('write only over the value whose token they were given', async () => {
      const token = (await start('get', '--token', 'colour').ended).out.trim();
      assert.match(token, /^[0-9a-f]{32}$/);
      assert.strictEqual((await start('put', '--if', token, 'colour', 'black').ended).code, 0);
      const refused = await start('put', '--if', token, 'colour', 'grey').ended;
      const now = (await start('get', '--token', 'colour').ended).out;
      assert.deepStrictEqual(refused, {
        ...{ code: 1, out: now },
        err: 'mdata-put: the key has changed\n',
      });
      assert.strictEqual((await start('delete', '--if', token, 'colour').ended).code, 1);
      assert.strictEqual((await start('delete', '--if', now.trim(), 'colour').ended).code, 0);
      assert.strictEqual((await start('put', '--if', '-', 'colour', 'red').ended).code, 0);
      assert.strictEqual((await start('put', '--if', '-', 'colour', 'red').ended).code, 1);
    });

    it('dump all metadata, and what is known of the instance', async () => {
      const { code, out, err } = await start('dump').ended;
      assert.deepStrictEqual([code, err], [0, '']);
      assert.match(out, /"token": "[0-9a-f]{32}"/);
      assert.match(out, /"metadata": \{\s+"a": "1"/);
      assert(!out.includes('"sdc"'));
      assert((await start('dump', '--sdc').ended).out.includes(`"uuid": "${uuidOf(0)}"`));
    });
  });

  describe('with an agent without WATCH and GETALL', () => {
    let directory: string;
    let path: string;
    let server: Server;
    let value = 'red';
    /** GETs that fail, with this text, before others succeed. */
    let failing = { text: '', count: 0 };
    const TOKEN = 'f'.repeat(32);
    let knowsWatch = false;
    /** The tokens of the WATCH requests that came. */
    const watches: string[] = [];
    const sockets = new Set<Socket>();

    beforeEach(async () => {
      knowsWatch = false;
      watches.length = 0;
      directory = mkdtempSync(join(tmpdir(), 'mdata-'));
      path = join(directory, 'metadata.sock');
      server = createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => socket.destroy());
        socket.on('close', () => sockets.delete(socket));
        socket.on('data', (chunk) => {
          for (const line of chunk.toString('latin1').split('\n').slice(0, -1)) {
            socket.write(reply(line));
          }
        });
      });
      server.listen(path);
      await once(server, 'listening');
    });

    afterEach(async () => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
      await once(server, 'close');
      rmSync(directory, { recursive: true });
    });

    function reply(line: string): string | Buffer {
      if (!line.startsWith('V2 ')) {
        return line === '' ? 'invalid command\n' : 'V2_OK\n';
      }
      const [, , , id = '', code = '', payload = ''] = line.split(' ');
      const key = Buffer.from(payload, 'base64').toString();
      switch (code) {
        case 'GET':
          if (failing.count > 0) {
            failing.count--;
            return frame(id, 'FAILURE', failing.text);
          }
          return key === 'colour' || key === 'sdc:uuid'
            ? frame(id, 'SUCCESS', value)
            : frame(id, 'NOTFOUND');
        case 'KEYS':
          return frame(id, 'SUCCESS', 'colour\nnone');
        case 'WATCH':
          watches.push(Buffer.from(payload, 'base64').toString().split(' ')[1] ?? '');
          return knowsWatch
            ? frame(id, 'SUCCESS', TOKEN)
            : frame(id, 'FAILURE', 'Unknown command WATCH');
        default:
          return frame(id, 'FAILURE', `Unknown command ${code}`);
      }
    }

    it('ask for WATCH again after a while, as another agent may have come', async () => {
      const program = new Program(path, 'watch', ['--once', 'colour']);
      await eventually(() => program.err !== '', 'it has said so');
      knowsWatch = true;
      await eventually(() => watches.length > 2, 'it waits by WATCH', 50_000);
      assert.deepStrictEqual([watches[1], watches[2]], ['-', TOKEN]);
      value = 'green';
      const { code, out, err } = await program.ended;
      assert.deepStrictEqual([code, out], [0, 'colour\ngreen\n']);
      assert.strictEqual(err.split('\n').length, 2, err);
    });

    it('poll every 10 seconds, and say so once', async () => {
      const program = new Program(path, 'watch', ['--once', 'colour']);
      await eventually(() => program.err !== '', 'it has said so');
      await new Promise((resolve) => setTimeout(resolve, 500));
      value = 'blue';
      const { code, out, err } = await program.ended;
      assert.deepStrictEqual([code, out], [0, 'colour\nblue\n']);
      assert.strictEqual(err.split('\n').length, 2, err);
    });

    it('ask again where the agent is not ready, and take no fault for a key that is gone', async () => {
      failing = { text: 'VM data is not available yet.', count: 2 };
      value = 'red';
      const patient = new Program(path, 'watch', ['-t', '4', 'colour']);
      assert.deepStrictEqual((await patient.ended).out, '');
      assert.doesNotMatch(patient.err, /No metadata/);
      assert.strictEqual(failing.count, 0);
      for (const [tool, ...args] of [['watch', 'colour'], ['dump']] as const) {
        failing = { text: 'No.', count: 1 };
        const { code, out, err } = await new Program(path, tool, args).ended;
        assert.deepStrictEqual([code, out], [2, '']);
        assert.match(err, /No\.\n$/);
      }
    });

    it('read the keys one by one', async () => {
      const { code, out } = await new Program(path, 'dump', ['--sdc']).ended;
      assert.strictEqual(code, 0);
      assert.deepStrictEqual(JSON.parse(out), {
        metadata: { colour: value },
        sdc: { uuid: value },
      });
    });
  });
});
