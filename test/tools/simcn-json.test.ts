/* The `json` of a zone, against what the original (version 11) prints. */
import assert from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const JSON_TOOL = join(__dirname, '..', '..', 'tools', 'simcn', 'json.js');

describe('simcn: the json of a zone', () => {
  const json = (input: string, ...args: string[]) => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [JSON_TOOL, ...args], {
      input,
      encoding: 'utf8',
    });
    return { stdout, stderr, status };
  };
  const prints = (input: string, args: readonly string[], stdout: string): void => {
    assert.deepStrictEqual(json(input, ...args), { stdout, stderr: '', status: 0 });
  };

  it('prints values by their path: text as it is, the rest as JSON, nothing for what is missing', () => {
    const object = '{"a":1,"b":{"c":[1,{"x":"y"}]},"n":null,"e":"","l":[]}';
    prints(object, ['a', 'zz', 'b.c.1.x', 'b.c.length'], '1\ny\n2\n');
    prints(object, ['n', 'e', 'l'], 'null\n[]\n');
    prints(object, ['b'], '{\n  "c": [\n    1,\n    {\n      "x": "y"\n    }\n  ]\n}\n');
    prints('{"x.y":{"z":5}}', ['["x.y"].z'], '5\n');
    prints('{"x.y":{"z":5}}', ['-D/', 'x.y/z'], '5\n');
    prints('{"x":[1,2]}', ['-0', 'x'], '[1,2]\n');
    prints('{"x":1,"y":2}', ['-k'], '[\n  "x",\n  "y"\n]\n');
  });

  it('prints a line for each element of an array', () => {
    const list = '[{"a":1,"b":"s"},{"a":2}]';
    prints(list, ['-a', 'a', 'b'], '1 s\n2 \n');
    prints(list, ['-a', '-d', ',', 'a', 'b'], '1,s\n2,\n');
    prints(list, ['-a', '-c', 'this.a == 2', 'a'], '2\n');
    prints('{"a":1}', ['-e', 'this.b = 2', '-o', 'json-0'], '{"a":1,"b":2}\n');
    prints('{"a":"}{"}{"a":2}\n{"a":3}', ['-ga', 'a'], '}{\n2\n3\n');
  });

  it('reads a file, and prints nothing for empty input', () => {
    const directory = mkdtempSync(join(tmpdir(), 'json-'));
    try {
      const file = join(directory, 'f.json');
      writeFileSync(file, '{"q":"v"}');
      prints('', ['-f', file, 'q'], 'v\n');
      prints('', ['q'], '');
      const missing = json('', '-f', join(directory, 'none'), 'q');
      assert.strictEqual(missing.status, 1);
      assert.match(missing.stderr, /^json: error: ENOENT/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('fails on what is not JSON and on an unknown option', () => {
    assert.match(json('{"a":', 'a').stderr, /^json: error: input is not JSON: /);
    assert.deepStrictEqual(json('{"a":', '-q', 'a'), { stdout: '', stderr: '', status: 1 });
    assert.strictEqual(json('{}', '-n').status, 0);
    assert.match(json('{}', '-z').stderr, /^json: error: Unknown option '-z'/);
  });
});
