/*
 * The quickstart as its user meets it where the tour is left early: nothing of it stays behind.
 * CI runs the whole tour.
 */
import assert from 'node:assert';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describeWhere } from '../support/pending';
import { whyNoNode } from '../support/simcn';
import { tempDir } from '../support/temp-dir';

const QUICKSTART = join(__dirname, '..', '..', 'tools', 'quickstart.js');

describeWhere(whyNoNode(), 'the quickstart', function () {
  this.timeout(60_000);
  const dir = tempDir();

  after(() => dir.remove());

  const start = (temporary = dir.path): ChildProcess => {
    const env = { ...process.env, TMPDIR: temporary };
    return spawn(process.execPath, [QUICKSTART], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  };

  /** Resolves with the whole line that first matches. */
  async function untilSaid(child: ChildProcess, what: RegExp): Promise<string> {
    assert(child.stdout !== null);
    for await (const line of createInterface({ input: child.stdout })) {
      if (what.test(line)) {
        return line;
      }
    }
    throw new Error('it ended before it said so');
  }

  /** Processes whose command line names the directory. */
  function left(): string[] {
    return readdirSync('/proc').flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
        return line.includes(dir.path) ? [line] : [];
      } catch {
        // No process, or one that has ended since.
        return [];
      }
    });
  }

  async function assertNothingLeft(child: ChildProcess): Promise<void> {
    const [status, signal] = (await once(child, 'exit')) as [number | null, string | null];
    assert.deepStrictEqual([status, signal], [1, null]);
    assert.deepStrictEqual(left(), []);
    assert.deepStrictEqual(readdirSync(dir.path), []);
  }

  it('stops the node and the agent on SIGTERM', async () => {
    const child = start();
    const line = await untilSaid(child, /compute node below/);
    assert(existsSync(/below ([^,]+),/.exec(line)?.[1] ?? ''), line);
    child.kill('SIGTERM');
    await assertNothingLeft(child);
  });

  it('whose reader has gone ends, and takes them with it', async () => {
    const child = start();
    await untilSaid(child, /mdatad is ready/);
    child.stdout?.destroy();
    await assertNothingLeft(child);
  });

  it('passes over a TMPDIR that is too long for the sockets of zones', async () => {
    const long = join(dir.path, 'a'.repeat(90));
    mkdirSync(long);
    const child = start(long);
    const line = await untilSaid(child, /compute node below/);
    child.kill('SIGTERM');
    rmSync(long, { recursive: true });
    await assertNothingLeft(child);
    const root = /below ([^,]+),/.exec(line)?.[1] ?? '';
    assert.match(root, /^\/tmp\/cn-/);
    assert(!existsSync(root));
  });

  it('prints its usage, and rejects unknown arguments', () => {
    const run = (...args: string[]): [number | null, string] => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [QUICKSTART, ...args], {
        encoding: 'utf8',
        timeout: 20_000,
      });
      return [status, stdout + stderr];
    };
    const [help, usage] = run('--help');
    assert.strictEqual(help, 0);
    assert.match(usage, /Usage: npm run quickstart/);
    const [refused, words] = run('--onec');
    assert.strictEqual(refused, 2);
    assert.match(words, /--onec/);
  });
});
