import assert from 'node:assert';
import { SystemError } from '../../src/lib/errors';
import { run } from '../../src/platform/exec';

const NODE = process.execPath;

async function failureOf(promise: Promise<unknown>): Promise<SystemError> {
  const err: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert(err instanceof SystemError, 'a SystemError');
  return err;
}

describe('exec.run', () => {
  it('feeds stdin, closes it, and gives both outputs', async () => {
    const script = 'process.stdin.pipe(process.stdout); process.stderr.write("done")';
    const { stdout, stderr } = await run([NODE, '-e', script], { stdin: 'caf\u00e9' });
    assert.deepStrictEqual([stdout, stderr], ['caf\u00e9', 'done']);
  });

  it('passes arguments as they are, since no shell reads them', async () => {
    const odd = '$(id) `id` "x" ; *';
    const { stdout } = await run([NODE, '-e', 'process.stdout.write(process.argv[1])', odd]);
    assert.strictEqual(stdout, odd);
  });

  it('inherits nothing from the environment but what it is given', async () => {
    const script = 'process.stdout.write(Object.keys(process.env).sort().join())';
    const { stdout } = await run([NODE, '-e', script], { env: { REQ_ID: 'r' } });
    // Node itself hands on where it counts coverage.
    const given = stdout.split(',').filter((name) => name !== 'NODE_V8_COVERAGE');
    assert.deepStrictEqual(
      given.filter((name) => !name.startsWith('__')),
      ['PATH', 'REQ_ID'],
    );
  });

  it('rejects with the exit code and the tail of stderr', async () => {
    const script =
      'process.stderr.write("x".repeat(300000) + "VM not found"); process.exitCode = 3';
    const err = await failureOf(run([NODE, '-e', script]));
    assert.strictEqual(err.code, 'EXIT_3');
    assert.match(err.message, /VM not found$/);
    assert(err.message.length < 3000);
  });

  it('leaves stderr out where it may repeat a secret', async () => {
    const script =
      'process.stdin.pipe(process.stderr); process.stdin.on("end", () => process.exit(1))';
    const err = await failureOf(run([NODE, '-e', script], { stdin: 'hunter2', secret: true }));
    assert.doesNotMatch(err.message, /hunter2/);
  });

  it('names the signal that killed the program', async () => {
    const err = await failureOf(
      run([NODE, '-e', 'process.kill(process.pid, "SIGTERM"); setTimeout(() => 0, 9e3)']),
    );
    assert.strictEqual(err.code, 'SIGTERM');
  });

  it('kills the program at its timeout, and does not wait for its children', async () => {
    const start = Date.now();
    const err = await failureOf(run(['/bin/sh', '-c', 'sleep 20 & sleep 20'], { timeoutMs: 100 }));
    assert.strictEqual(err.code, 'ETIMEDOUT');
    assert(Date.now() - start < 5000);
  });

  it('reports why a program cannot be started', async () => {
    assert.strictEqual((await failureOf(run(['/no/such/program']))).code, 'ENOENT');
  });

  it('kills the program when it is asked to, and does not wait for its children', async () => {
    const ending = new AbortController();
    const ran = run(['/bin/sh', '-c', 'sleep 20 & sleep 20'], { signal: ending.signal });
    setTimeout(() => ending.abort(), 100);
    assert.strictEqual((await failureOf(ran)).code, 'SIGKILL');
    const late = run(['/bin/sleep', '20'], { signal: ending.signal });
    assert.strictEqual((await failureOf(late)).code, 'SIGKILL');
  });

  it('kills a program that prints without end', async () => {
    assert.strictEqual((await failureOf(run(['/bin/cat', '/dev/zero']))).code, 'EMSGSIZE');
  });

  it('survives a program that does not read its input', async () => {
    await run([NODE, '-e', 'process.exit(0)'], { stdin: Buffer.alloc(4 * 1024 * 1024) });
  });
});
