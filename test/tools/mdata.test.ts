/*
 * The four mdata programs as real processes against a real socket, whose other end is either the
 * protocol's own code over a VM in memory or a script of what a service does wrong.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { LineReader } from '../../src/protocol/line-reader';
import { parseLine } from '../../src/protocol/request';
import { frame } from '../support/frames';
import { FIXTURE } from '../support/vm-fixture';
import { replyOf } from '../support/reply-of';
import { memoryVm } from '../support/vm-data';
import type { MemoryVm } from '../support/vm-data';

const TOOLS = join(__dirname, '..', '..', 'tools', 'mdata');

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface RunOptions {
  readonly input?: Buffer;
  readonly env?: Readonly<Record<string, string>>;
  /** Called when the program says something for the first time. */
  readonly onNote?: () => void;
}

describe('the mdata programs', () => {
  let directory: string;
  let path: string;
  let server: Server | null = null;
  let vm: MemoryVm;
  const sockets = new Set<Socket>();

  /** Takes connections with the given function for each; the nth call gets n, from 1. */
  async function listen(serve: (socket: Socket, nth: number) => void): Promise<void> {
    let count = 0;
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      // A program that has its answer leaves without ceremony.
      socket.on('error', () => socket.destroy());
      serve(socket, ++count);
    });
    server.listen(path);
    await once(server, 'listening');
  }

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'mdata-'));
    path = join(directory, 'metadata.sock');
    vm = memoryVm(FIXTURE);
  });

  afterEach(async () => {
    const gone = [...sockets].map((socket) => once(socket.destroy(), 'close'));
    await Promise.all(gone);
    if (server !== null) {
      const closed = once(server, 'close');
      server.close();
      await closed;
      server = null;
    }
    assert.strictEqual(sockets.size, 0);
    rmSync(directory, { recursive: true });
  });

  /** Runs a program. Arguments are bytes: those that are not UTF-8 reach it through a shell's printf. */
  async function run(
    tool: 'get' | 'put' | 'list' | 'delete',
    args: readonly string[],
    { input, env, onNote }: RunOptions = {},
  ): Promise<Ended> {
    const words = args.map((arg) => `"$(printf '%b' '${escaped(arg)}')"`);
    const command = `exec "$0" "$1" ${words.join(' ')}`;
    const child = spawn('/bin/sh', ['-c', command, process.execPath, join(TOOLS, `${tool}.js`)], {
      env: { PATH: process.env.PATH, ...(env ?? { MDATA_SOCKET: path }) },
    });
    child.stdin.on('error', () => child.stdin.destroy());
    child.stdin.end(input ?? Buffer.alloc(0));
    if (onNote !== undefined) {
      child.stderr.once('data', onNote);
    }
    const closed = once(child, 'close');
    const [out, err] = await Promise.all([buffer(child.stdout), buffer(child.stderr)]);
    await closed;
    return { code: child.exitCode, out: out.toString('latin1'), err: err.toString('latin1') };
  }

  describe('with a service', () => {
    beforeEach(() => listen((socket) => serveVm(socket, () => vm)));

    it('print a value with a newline at its end, one that is there not doubled', async () => {
      assert.deepStrictEqual(await run('get', ['motd']), {
        code: 0,
        out: '.hid\n..two\nplain\n',
        err: '',
      });
      assert.strictEqual((await run('get', ['user-script'])).out, '#!/bin/sh\necho hi\n');
      assert.strictEqual((await run('get', ['empty'])).out, '\n');
      assert.strictEqual((await run('get', ['sdc:nics.0.ip'])).out, '10.2.1.20\n');
    });

    it('say that there is no such key, and exit 1', async () => {
      assert.deepStrictEqual(await run('get', ['nosuch']), {
        code: 1,
        out: '',
        err: "No metadata for 'nosuch'\n",
      });
    });

    it('list the keys one a line, and nothing for none', async () => {
      const listed = await run('list', []);
      assert.strictEqual(listed.code, 0);
      assert.strictEqual(
        listed.out,
        'motd\nuser-script\nempty\ncaf\xc3\xa9\ntwo words\nroot_pw\ndocker:cmd\ndocker:restartcount\n',
      );
      vm = memoryVm({ ...FIXTURE, customer: {}, internal: {} });
      assert.deepStrictEqual(await run('list', []), { code: 0, out: '', err: '' });
    });

    it('set a key to an operand, or to all of stdin', async () => {
      const input = Buffer.from('line\n\n\0ü\n');
      const puts = [
        await run('put', ['colour', 'blue']),
        await run('put', ['-dash', '-5']),
        await run('put', ['script'], { input }),
      ];
      assert.match((await run('put', ['none', ''])).err, /Empty values are not stored\./);
      for (const ended of puts) {
        assert.deepStrictEqual(ended, { code: 0, out: '', err: '' });
      }
      assert.deepStrictEqual(vm.changes, [
        { kind: 'set', map: 'customer', key: 'colour', value: 'blue' },
        { kind: 'set', map: 'customer', key: '-dash', value: '-5' },
        { kind: 'set', map: 'customer', key: 'script', value: 'line\n\n\0ü\n' },
      ]);
    });

    it('carry a value of 1 MiB', async () => {
      const input = Buffer.alloc(1024 * 1024, 'long ');
      assert.strictEqual((await run('put', ['long'], { input })).code, 0);
      const [change] = vm.changes;
      assert(change?.kind === 'set');
      assert(change.value.toString() === input.toString());
      vm = memoryVm({ ...FIXTURE, customer: { long: change.value.toString() } });
      assert((await run('get', ['long'])).out === `${input.toString()}\n`);
    });

    it('remove a key', async () => {
      assert.deepStrictEqual(await run('delete', ['root_pw']), { code: 0, out: '', err: '' });
      assert.deepStrictEqual(vm.changes, [{ kind: 'remove', map: 'internal', key: 'root_pw' }]);
    });

    it('show the reason of a refusal, and exit 2', async () => {
      assert.deepStrictEqual(await run('put', ['sdc:uuid', 'x']), {
        code: 2,
        out: '',
        err: 'mdata-put: Cannot update the "sdc" Namespace.\n',
      });
      assert.deepStrictEqual(await run('get', ['']), {
        code: 2,
        out: '',
        err: 'mdata-get: Invalid GET Request\n',
      });
      assert.strictEqual((await run('get', ['sdc:tags'])).code, 2);
      assert.deepStrictEqual(vm.changes, []);
    });

    it('send bytes that are not UTF-8 as they are, for the service to refuse', async () => {
      for (const [ended, reason] of [
        [await run('put', ['k', 'a\xff']), 'Value is not UTF-8.'],
        [await run('put', ['k\xff', 'a']), 'Key is not UTF-8.'],
        [await run('put', ['k'], { input: Buffer.from('a\xff', 'latin1') }), 'Value is not UTF-8.'],
      ] as const) {
        assert.deepStrictEqual(ended, { code: 2, out: '', err: `mdata-put: ${reason}\n` });
      }
      assert.deepStrictEqual(vm.changes, []);
      assert.strictEqual((await run('get', ['caf\xc3\xa9'])).out, 'na\xc3\xafve \xe2\x98\x83\n');
      const absent = await run('get', ['\xc3\xa9']);
      assert.strictEqual(absent.err, "No metadata for '\xc3\xa9'\n");
    });

    it('take the socket from an option before the key, rather than the environment', async () => {
      const env = { MDATA_SOCKET: '/nonexistent' };
      for (const args of [
        ['--socket', path, 'motd'],
        [`--socket=${path}`, '--timeout', '5', 'motd'],
      ]) {
        assert.strictEqual((await run('get', args, { env })).code, 0);
      }
      const behind = await run('get', ['motd', '--socket', path], { env });
      assert.strictEqual(behind.code, 2, 'behind the key it is no option');
    });

    it('take key and value as they stand, whatever they look like, and nothing else', async () => {
      const values = ['-h', '--help', '--', '--timeout=5', '--socket', '--version', '-5'];
      for (const value of values) {
        assert.deepStrictEqual(await run('put', ['k', value]), { code: 0, out: '', err: '' });
      }
      assert.deepStrictEqual(
        vm.changes,
        values.map((value) => ({ kind: 'set', map: 'customer', key: 'k', value })),
      );
      vm = memoryVm({ ...FIXTURE, customer: { '--': 'dashes', '-k': 'dash' } });
      assert.strictEqual((await run('get', ['--', 'k'])).out, 'dashes\n');
      assert.strictEqual((await run('get', ['-k', '--timeout', 'soon'])).out, 'dash\n');
      assert.strictEqual((await run('delete', ['--', 'x', 'y'])).code, 0);
      assert.strictEqual((await run('list', ['a', '--help', 'c'])).code, 0);
    });

    it('ignore operands beyond the last that they know', async () => {
      assert.strictEqual((await run('put', ['k', 'v', 'w', 'x'])).code, 0);
      assert.deepStrictEqual(vm.changes, [{ kind: 'set', map: 'customer', key: 'k', value: 'v' }]);
      assert.strictEqual((await run('get', ['empty', 'motd'])).out, '\n');
    });
  });

  it('explain their usage, and exit 3 where it is wrong', async () => {
    for (const tool of ['get', 'put', 'list', 'delete'] as const) {
      const help = await run(tool, ['--help']);
      assert.strictEqual(help.code, 0);
      assert.match(help.out, new RegExp(`Usage: mdata-${tool}`));
      assert.match((await run(tool, ['--version'])).out, /^\d+\.\d+\.\d+\n$/);
      const wrong = await run(tool, ['--timeout']);
      assert.strictEqual(wrong.code, 3);
      assert.match(wrong.err, /--timeout needs a value\nUsage: /);
    }
    for (const tool of ['get', 'put', 'delete'] as const) {
      assert.strictEqual((await run(tool, [])).code, 3);
    }
    assert.strictEqual((await run('get', ['--timeout', 'soon', 'k'])).code, 3);
    const env = { MDATA_SOCKET: path, MDATA_TIMEOUT: '-1' };
    assert.strictEqual((await run('get', ['k'], { env })).code, 3);
  });

  it('ask again with another id when the service hangs up in the middle', async () => {
    const requests: string[] = [];
    await listen((socket, nth) => {
      serveLines(socket, (line) => {
        requests.push(line);
        if (nth === 1 && line.startsWith('V2 ')) {
          socket.destroy();
          return '';
        }
        return replyOf(vm, parseLine(Buffer.from(line), 'socket'));
      });
    });
    const ended = await run('get', ['motd']);
    assert.strictEqual(ended.code, 0);
    assert.match(ended.err, /connection closed, resetting protocol/);
    const frames = requests.filter((line) => line.startsWith('V2 '));
    assert.strictEqual(frames.length, 2);
    assert.notStrictEqual(frames[0], frames[1]);
    assert.strictEqual(requests.filter((line) => line === '').length, 2);
  });

  it('pass over late replies to others, and take one that comes byte by byte', async () => {
    await listen((socket) => {
      serveLines(socket, async (line) => {
        const reply = await replyOf(vm, parseLine(Buffer.from(line), 'socket'));
        if (!line.startsWith('V2 ')) {
          return reply;
        }
        const foreign = frame('00000000', 'SUCCESS', 'wrong').toString('latin1');
        for (const byte of `${foreign}noise\n${reply}`) {
          await new Promise((resolve) => socket.write(byte, resolve));
        }
        return '';
      });
    });
    assert.strictEqual((await run('get', ['two words'])).out, 'ok\n');
  });

  it('fail with a service that knows version 1 only', async () => {
    await listen((socket) => {
      serveLines(socket, (line) =>
        line.startsWith('NEGOTIATE')
          ? 'FAILURE\n'
          : replyOf(vm, parseLine(Buffer.from(line), 'socket')),
      );
    });
    const get = await run('get', ['motd']);
    assert.strictEqual(get.code, 2);
    assert.match(get.err, /does not speak version 2 of the protocol/);
  });

  it('wait for a service that starts late', async () => {
    let listening: Promise<void> = Promise.resolve();
    const ended = await run('get', ['motd'], {
      onNote: () => {
        listening = listen((socket) => serveVm(socket, () => vm));
      },
    });
    await listening;
    assert.strictEqual(ended.code, 0);
    assert.match(ended.err, /does not answer yet, waiting/);
  });

  it('give up on a socket that is not there, and on a service that is silent for too long', async () => {
    const absent = await run('get', ['motd']);
    assert.strictEqual(absent.code, 2);
    assert.match(absent.err, /no metadata socket: .*\(ENOENT\)/);
    await listen(() => undefined);
    const silent = await run('get', ['--timeout', '0.3', 'motd']);
    assert.strictEqual(silent.code, 2);
    assert.match(silent.err, /no answer in time \(ETIMEDOUT\)/);
  });
});

/** An argument for printf's %b: all but letters and digits as octal escapes. */
function escaped(text: string): string {
  return text.replace(
    /[^A-Za-z0-9]/g,
    (byte) => `\\0${byte.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
}

function serveVm(socket: Socket, vm: () => MemoryVm): void {
  serveLines(socket, (line) => replyOf(vm(), parseLine(Buffer.from(line, 'latin1'), 'socket')));
}

/** Answers line by line, in order. Lines and answers are strings of bytes. */
function serveLines(socket: Socket, serve: (line: string) => string | Promise<string>): void {
  const framer = new LineReader(2 * 1024 * 1024);
  let queue = Promise.resolve();
  socket.on('data', (chunk: Buffer) => {
    framer.push(chunk);
    for (let line = framer.next(); line !== null; line = framer.next()) {
      assert(line.kind === 'line');
      const text = line.bytes.toString('latin1');
      queue = queue.then(async () => {
        const reply = await serve(text);
        if (reply !== '' && socket.writable) {
          socket.write(reply, 'latin1');
        }
      });
    }
  });
}
