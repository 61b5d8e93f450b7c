/*
 * The names that a listening socket is bound at before it gets its own.
 */
import assert from 'node:assert';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemError } from '../../src/lib/errors';
import { bindAt } from '../../src/transport/socket-file';
import { listenUnix } from '../../src/platform/sockets';

describe('the file of a socket', () => {
  let root: string;
  let path: string;
  let closing: (() => void)[];

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'sf-'));
    path = join(root, 'zone', 'metadata.sock');
    closing = [];
  });

  afterEach(() => {
    closing.forEach((close) => close());
    rmSync(root, { recursive: true });
  });

  /** @returns the name that was bound, which ends in a number that grows by one each time */
  function bind(): string {
    let own = '';
    const { listener } = bindAt(path, (name) => {
      own = name;
      return listenUnix(
        name,
        () => undefined,
        () => undefined,
      );
    });
    closing.push(() => listener.close());
    return own;
  }

  function next(own: string): string {
    return own.replace(/\d+$/, (number) => String(Number(number) + 1));
  }

  it('is created over the temporary file of a killed agent', () => {
    const left = next(bind());
    writeFileSync(left, 'of a killed agent');
    assert.strictEqual(bind(), left);
    assert.ok(lstatSync(path).isSocket());
    assert.deepStrictEqual(readdirSync(root), ['zone']);
  });

  it('is in a directory for root alone, and that in one for everybody, whatever the umask', () => {
    path = join(root, 'zonecontrol', 'zone', 'metadata.sock');
    const before = process.umask(0o077);
    try {
      bind();
    } finally {
      process.umask(before);
    }
    const modeOf = (name: string): number => lstatSync(join(root, name)).mode & 0o7777;
    assert.strictEqual(modeOf('zonecontrol'), 0o755);
    assert.strictEqual(modeOf('zonecontrol/zone'), 0o700);
  });

  it('is not created when the temporary name cannot be removed, which the error names', () => {
    const left = next(bind());
    mkdirSync(left);
    assert.throws(bind, (err) => err instanceof SystemError && err.message.includes(left));
    assert.ok(lstatSync(path).isSocket(), 'the one before is still there');
  });
});
