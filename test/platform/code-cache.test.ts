import assert from 'node:assert';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from '../../src/platform/code-cache';

/** As long as the other: V8 would take one for the other. */
const ONE = 'require("node:fs").writeFileSync(__filename + ".ran", "one");';
const TWO = ONE.replace('one', 'two');

describe('a program run from a cache of its code', () => {
  let directory: string;
  let program: string;
  let cache: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'cc-'));
    program = join(directory, 'program.js');
    cache = `${program}.cache`;
    writeFileSync(program, ONE);
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  function ran(): string {
    return readFileSync(`${program}.ran`, 'utf8');
  }

  it('runs without one, and from it when it was kept', () => {
    const first = runProgram(program);
    assert.strictEqual(first.cached, false);
    assert.strictEqual(ran(), 'one');
    first.keep();
    rmSync(`${program}.ran`);
    assert.strictEqual(runProgram(program).cached, true);
    assert.strictEqual(ran(), 'one');
  });

  it('runs what the file says now, though it is as long as before', () => {
    runProgram(program).keep();
    writeFileSync(program, TWO);
    assert.strictEqual(runProgram(program).cached, false);
    assert.strictEqual(ran(), 'two');
  });

  it("leaves alone what was damaged or cut, or is another's", () => {
    runProgram(program).keep();
    const whole = readFileSync(cache);
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(1 ^ damaged.readUInt8(whole.length - 1), whole.length - 1);
    for (const bytes of [damaged, whole.subarray(0, -1), whole.subarray(0, 20), Buffer.alloc(0)]) {
      writeFileSync(cache, bytes);
      const again = runProgram(program);
      assert.strictEqual(again.cached, false);
      assert.strictEqual(ran(), 'one');
      again.keep();
      assert.strictEqual(runProgram(program).cached, true);
    }
  });

  it('runs where no cache can be written, and leaves nothing behind', () => {
    mkdirSync(join(cache, 'in the way'), { recursive: true });
    runProgram(program).keep();
    assert.strictEqual(runProgram(program).cached, false);
    assert.deepStrictEqual(readdirSync(directory).sort(), [
      'program.js',
      'program.js.cache',
      'program.js.ran',
    ]);
  });

  it('tells what the program throws, with the line of its file', () => {
    writeFileSync(program, '\nthrow new Error("broken");');
    assert.throws(
      () => runProgram(program),
      (err) =>
        err instanceof Error &&
        err.message === 'broken' &&
        `${err.stack}`.includes(`${program}:2:`),
    );
  });
});
