/* What is read of a file; the offsets in it are tested with vm/metadata-index. */
import assert from 'node:assert';
import { symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sizeOf } from '../../src/platform/files';
import { readText, readTextNow, readValue, readValueNow } from '../../src/platform/metadata-text';
import { tempDir, type TempDir } from '../support/temp-dir';

const MAX = 1024;

describe('the text of a metadata file', () => {
  let dir: TempDir;
  let path: string;

  beforeEach(() => {
    dir = tempDir();
    path = join(dir.path, 'metadata.json');
  });

  afterEach(() => dir.remove());

  it('comes whole up to a length, and at once as from a thread', async () => {
    writeFileSync(path, '{"a":1}');
    const file = readTextNow(path, 7, 7);
    assert(file.kind === 'ok');
    assert.strictEqual(file.bytes?.toString(), '{"a":1}');
    assert.strictEqual(sizeOf(file.stat), 7);
    assert.deepStrictEqual(await readText(path, 7, 7), file);
    const onDisk = readTextNow(path, 7, 6);
    assert(onDisk.kind === 'ok' && onDisk.bytes === null);
    const refused = readTextNow(path, 6, 6);
    assert(refused.kind === 'refused' && refused.reason === 'too large');
    assert.deepStrictEqual(await readText(path, 6, 6), refused);
  });

  it('is that of a regular file, and nothing else is opened', () => {
    symlinkSync('/etc/passwd', path);
    const file = readTextNow(path, MAX, MAX);
    assert(file.kind === 'refused' && file.reason === 'not a regular file');
    unlinkSync(path);
    assert.throws(() => readTextNow(path, MAX, MAX), { call: 'read', code: 'ENOENT' });
  });

  it('is read value by value while the file is the same', async () => {
    writeFileSync(path, '{"a":"\\u00e9\\n","b":[1]}');
    const file = readTextNow(path, MAX, MAX);
    assert(file.kind === 'ok');
    for (const [range, text] of [
      [{ valueStart: 5, valueEnd: 15, isString: true }, '\u00e9\n'],
      [{ valueStart: 20, valueEnd: 23, isString: false }, '[1]'],
    ] as const) {
      assert.strictEqual(readValueNow(path, file.stat, range)?.toString(), text);
      assert.strictEqual((await readValue(path, file.stat, range))?.toString(), text);
    }
    const range = { valueStart: 20, valueEnd: 23, isString: false };
    writeFileSync(path, '{"a":"other","b":[1]    }');
    assert.strictEqual(readValueNow(path, file.stat, range), undefined);
    assert.strictEqual(await readValue(path, file.stat, range), undefined);
    unlinkSync(path);
    assert.throws(() => readValueNow(path, file.stat, range), { code: 'ENOENT' });
    await assert.rejects(readValue(path, file.stat, range), { code: 'ENOENT' });
  });
});
