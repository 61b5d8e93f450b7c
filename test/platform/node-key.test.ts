import assert from 'node:assert';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SystemError } from '../../src/lib/errors';
import { nodeKey } from '../../src/platform/node-key';

describe("the node's key", () => {
  let directory: string;
  let path: string;
  let refused: SystemError[];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'nk-'));
    path = join(directory, 'var', 'mdatad', 'token.key');
    refused = [];
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const read = (): Promise<Buffer> => nodeKey(path, (err) => refused.push(err));

  it('is created once, in a file that only its owner can read', async () => {
    const key = await read();
    assert.strictEqual(key.length, 32);
    assert.deepStrictEqual(await read(), key);
    assert.deepStrictEqual(readFileSync(path), key);
    assert.strictEqual(statSync(path).mode & 0o777, 0o600);
    assert.strictEqual(statSync(join(path, '..')).mode & 0o777, 0o700);
    assert.deepStrictEqual(refused, []);
  });

  it('is replaced when its file is truncated or readable by others', async () => {
    const key = await read();
    chmodSync(path, 0o644);
    const next = await read();
    assert.notDeepStrictEqual(next, key);
    writeFileSync(path, Buffer.alloc(16));
    assert.notDeepStrictEqual(await read(), next);
    assert.deepStrictEqual(
      refused.map(({ code }) => code),
      ['EBADMSG', 'EBADMSG'],
    );
    assert.strictEqual(statSync(path).size, 32);
  });

  it('is not read through a symbolic link', async () => {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(join(directory, 'other'), Buffer.alloc(32), { mode: 0o600 });
    symlinkSync(join(directory, 'other'), path);
    assert.notDeepStrictEqual(await read(), Buffer.alloc(32));
    assert.strictEqual(refused[0]?.code, 'ELOOP');
    assert.deepStrictEqual(readFileSync(join(directory, 'other')), Buffer.alloc(32));
  });

  it('is kept in memory where its file cannot be written, which is reported', async () => {
    writeFileSync(join(directory, 'var'), 'no directory');
    assert.strictEqual((await read()).length, 32);
    assert(refused.length > 0);
  });
});
