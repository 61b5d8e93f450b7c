import assert from 'node:assert';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { takeFreeLock, takeLock } from '../../src/platform/lock';
import { openDescriptors } from '../support/emulated-node';
import { eventually } from '../support/eventually';

/** Another program's own view of the lock, through another language's own fcntl. */
const HOLD = `
import fcntl, sys
f = open(sys.argv[1], 'w')
fcntl.lockf(f, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
`;
const TRY = `
import fcntl, sys
f = open(sys.argv[1], 'a')
try:
    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print('free')
except OSError:
    print('held')
`;

describe('the file lock', () => {
  let directory: string;
  let path: string;
  let descriptors: number;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'lock-'));
    path = join(directory, 'vm.lockfile');
    descriptors = openDescriptors();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) {
        await once(child, 'exit');
      }
      child.stdin?.destroy();
      child.stdout?.destroy();
    }
    rmSync(directory, { recursive: true });
    await eventually(
      () => openDescriptors() === descriptors,
      'the number of descriptors as before',
    );
  });

  async function lockElsewhere(): Promise<ChildProcess> {
    const child = spawn('python3', ['-c', HOLD, path], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    await once(child.stdout, 'data');
    return child;
  }

  function seenElsewhere(): string {
    return spawnSync('python3', ['-c', TRY, path], { encoding: 'utf8' }).stdout.trim();
  }

  it('keeps other programs out until it is released', async () => {
    const lock = await takeLock(path, { timeoutMs: 1000 });
    assert.strictEqual(seenElsewhere(), 'held');
    lock.release();
    assert.strictEqual(seenElsewhere(), 'free');
    lock.release();
  });

  it('creates its file as the platform does, empty and readable by all', async () => {
    const umask = process.umask(0o022);
    try {
      writeFileSync(path, 'left by somebody');
      (await takeLock(path, { timeoutMs: 1000 })).release();
      assert.strictEqual(statSync(path).size, 0);
      rmSync(path);
      (await takeLock(path, { timeoutMs: 1000 })).release();
      assert.strictEqual(statSync(path).mode & 0o777, 0o644);
    } finally {
      process.umask(umask);
    }
  });

  it('is taken soon after another program released it', async () => {
    const holder = await lockElsewhere();
    const pending = takeLock(path, { timeoutMs: 10_000 });
    holder.stdin?.end();
    const [code] = (await once(holder, 'exit')) as [number];
    assert.strictEqual(code, 0);
    const left = performance.now();
    (await pending).release();
    assert.ok(performance.now() - left < 3000, 'the pauses between two attempts are short');
  });

  it('is taken after its holder was killed', async () => {
    const holder = await lockElsewhere();
    const pending = takeLock(path, { timeoutMs: 10_000 });
    holder.kill('SIGKILL');
    (await pending).release();
  });

  it('rejects at the deadline', async () => {
    await lockElsewhere();
    await assert.rejects(takeLock(path, { timeoutMs: 50 }), {
      call: 'lock',
      subject: path,
      code: 'ETIMEDOUT',
    });
  });

  it('rejects when it is aborted, before and during the wait', async () => {
    await lockElsewhere();
    const controller = new AbortController();
    const waiting = takeLock(path, { timeoutMs: 10_000, signal: controller.signal });
    controller.abort();
    await assert.rejects(waiting, { code: 'ECANCELED' });
    await assert.rejects(takeLock(path, { timeoutMs: 10_000, signal: controller.signal }), {
      code: 'ECANCELED',
    });
  });

  it('reports why it cannot be taken', async () => {
    await assert.rejects(takeLock(join(directory, 'no/such/lock'), { timeoutMs: 1000 }), {
      call: 'lock',
      code: 'ENOENT',
    });
  });

  it('is given to one caller of a process at a time', async () => {
    let holders = 0;
    let taken = 0;
    const callers = Array.from({ length: 20 }, async (_, i) => {
      const lock = await takeLock(path, { timeoutMs: 10_000 });
      assert.strictEqual(++holders, 1);
      // None of those that wait may have the file open: to close it would drop the lock.
      await new Promise((resolve) => setImmediate(resolve));
      if (i % 10 === 0) {
        assert.strictEqual(seenElsewhere(), 'held');
      }
      holders--;
      taken++;
      lock.release();
      // A second time, when it may be another caller's, does nothing.
      await new Promise((resolve) => setImmediate(resolve));
      lock.release();
    });
    await Promise.all(callers);
    assert.strictEqual(taken, 20);
  });

  it('stays held when other callers give up', async () => {
    const lock = await takeLock(path, { timeoutMs: 1000 });
    await assert.rejects(takeLock(path, { timeoutMs: 20 }), { code: 'ETIMEDOUT' });
    const controller = new AbortController();
    const aborted = takeLock(path, { timeoutMs: 10_000, signal: controller.signal });
    const waiting = takeLock(path, { timeoutMs: 10_000 });
    controller.abort();
    await assert.rejects(aborted, { code: 'ECANCELED' });
    assert.strictEqual(seenElsewhere(), 'held');
    lock.release();
    (await waiting).release();
    assert.strictEqual(seenElsewhere(), 'free');
  });

  it('is on the file that the path names, even if it was replaced meanwhile', async () => {
    const holder = await lockElsewhere();
    const pending = takeLock(path, { timeoutMs: 10_000 });
    writeFileSync(`${path}.new`, '');
    renameSync(`${path}.new`, path);
    holder.stdin?.end();
    const lock = await pending;
    assert.strictEqual(seenElsewhere(), 'held');
    lock.release();
  });

  it('is taken at once where nobody has it, and not waited for where somebody does', async () => {
    const lock = takeFreeLock(path);
    assert.strictEqual(seenElsewhere(), 'held');
    assert.strictEqual(takeFreeLock(path), null);
    lock?.release();
    const holder = await lockElsewhere();
    assert.strictEqual(takeFreeLock(path), null);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    takeFreeLock(path)?.release();
    assert.strictEqual(seenElsewhere(), 'free');
  });

  it('of one file does not wait for the lock of another', async () => {
    const one = await takeLock(path, { timeoutMs: 1000 });
    const two = await takeLock(`${path}2`, { timeoutMs: 1000 });
    one.release();
    two.release();
  });
});
