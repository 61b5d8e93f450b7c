import assert from 'node:assert';
import fc from 'fast-check';
import { BrokenLine, SnapshotParser } from '../../src/vm/snapshot-parser';
import { vmObjects } from '../support/vm-objects';

function readyLine(vms: string): Buffer {
  return Buffer.from(`${JSON.stringify({ type: 'ready', date: 'd', uuid: 'u', vms })}\n`);
}

/** What a reader makes of a line that comes in pieces of `step` bytes; null where it is not whole. */
function read(line: Buffer, step: number): unknown[] | null {
  const vms: unknown[] = [];
  const reader = new SnapshotParser((json) => vms.push(JSON.parse(json)));
  let isWhole = false;
  for (let at = 0; at < line.length; at += step) {
    assert.strictEqual(isWhole, false);
    isWhole = reader.push(line.subarray(at, at + step));
  }
  return isWhole ? vms : null;
}

describe('SnapshotParser', () => {
  const objects = vmObjects(3, 200);
  const line = readyLine(JSON.stringify(objects));

  it('finds the same VMs wherever the line is cut', () => {
    for (let cut = 1; cut < line.length; cut++) {
      const vms: unknown[] = [];
      const reader = new SnapshotParser((json) => vms.push(JSON.parse(json)));
      assert.strictEqual(reader.push(line.subarray(0, cut)), false);
      assert.strictEqual(reader.push(line.subarray(cut)), true);
      assert.deepStrictEqual(vms, objects);
    }
  });

  it('accepts single bytes, and says whether the line is whole', () => {
    assert.deepStrictEqual(read(line, 1), objects);
    assert.strictEqual(read(line.subarray(0, -1), 1), null);
  });

  it('parses every escape, blanks, and members in another order', () => {
    const escaped = JSON.stringify(objects).replace(/[\u0080-\uffff]/g, (c) => {
      return `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
    });
    const inner = JSON.stringify(` [\n${escaped.slice(1, -1)} \t]`).replace(
      /(?<!\\)\\n/g,
      '\\u000a',
    );
    const other = Buffer.from(`{ "vms" : ${inner} , "x": "vms", "type" : "ready" }\n`);
    assert.deepStrictEqual(read(other, 7), objects);
  });

  it('reads any objects as JSON.parse does', () => {
    const objectArray = fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()));
    fc.assert(
      fc.property(objectArray, fc.integer({ min: 1, max: 50 }), (vms, step) => {
        const text = JSON.stringify(vms);
        assert.deepStrictEqual(read(readyLine(text), step), JSON.parse(text));
      }),
    );
  });

  it('parses an empty list of VMs', () => {
    assert.deepStrictEqual(read(readyLine('[]'), 5), []);
  });

  const broken: readonly (readonly [string, string | Buffer])[] = [
    ['an event instead', '{"type":"modify","zonename":"z"}\n'],
    ['a ready line without VMs', '{"type":"ready"}\n'],
    ['VMs that are no text', '{"type":"ready","vms":[]}\n'],
    ['another type', '{"type":"steady","vms":"[]"}\n'],
    ['a line that ends within the VMs', '{"type":"ready","vms":"[{\\"a\\":1\n'],
    ['a list that is cut', readyLine('[{"a":1}')],
    ['something else than objects', readyLine('[{"a":1},7]')],
    ['no list', readyLine('{"a":1}')],
    ['something behind the list', readyLine('[] []')],
    ['the beginning of a VM behind the list', readyLine('[]{"a":')],
    ['a list with nothing between two commas', readyLine('[{},,{}]')],
    ['a control character in the list', '{"type":"ready","vms":"[\u0001]"}\n'],
    ['more VMs than a node has', readyLine(`[${'{},'.repeat(66_000)}{}]`)],
    ['a bad escape', '{"type":"ready","vms":"[\\q]"}\n'],
    ['a bad end', '{"type":"ready","vms":"[]"]\n'],
    ['binary junk', Buffer.from([0xff, 0x00, 0xfe, 0x01])],
  ];
  for (const [name, bytes] of broken) {
    it(`rejects ${name}`, () => {
      assert.throws(() => read(Buffer.from(bytes), 3), BrokenLine);
    });
  }

  it('rejects a first line that goes on without VMs', () => {
    const endless = Buffer.from(`{"type":"ready","x":"${'x'.repeat(200_000)}`);
    assert.throws(() => read(endless, 4096), BrokenLine);
  });
});
