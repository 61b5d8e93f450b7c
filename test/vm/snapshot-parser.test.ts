import assert from 'node:assert';
import fc from 'fast-check';
import { BrokenLine, SnapshotParser } from '../../src/vm/snapshot-parser';
import { vmObjects } from '../support/vm-objects';

function readyLine(vms: string): Buffer {
  return Buffer.from(`${JSON.stringify({ type: 'ready', date: 'd', uuid: 'u', vms })}\n`);
}

/** What a reader makes of a line that comes in pieces of `step` bytes; the rest behind the line too. */
function read(line: Buffer, step: number): { vms: unknown[]; done: boolean; left: number } {
  const vms: unknown[] = [];
  const reader = new SnapshotParser((json) => vms.push(JSON.parse(json.toString('utf8'))));
  let at = 0;
  while (at < line.length && !reader.done) {
    const piece = line.subarray(at, at + step);
    const used = reader.push(piece);
    at += used;
    if (used < piece.length) {
      break;
    }
  }
  return { vms, done: reader.done, left: line.length - at };
}

describe('SnapshotParser', () => {
  const objects = vmObjects(3, 200);
  const line = readyLine(JSON.stringify(objects));

  it('finds the same VMs wherever the line is cut', () => {
    for (let cut = 1; cut < line.length; cut++) {
      const vms: unknown[] = [];
      const reader = new SnapshotParser((json) => vms.push(JSON.parse(json.toString('utf8'))));
      assert.strictEqual(reader.push(line.subarray(0, cut)), cut);
      assert.strictEqual(reader.push(line.subarray(cut)), line.length - cut);
      assert.deepStrictEqual(vms, objects);
      assert.strictEqual(reader.done, true);
    }
  });

  it('accepts single bytes, and leaves what follows the line', () => {
    assert.deepStrictEqual(read(line, 1).vms, objects);
    const more = Buffer.concat([line, Buffer.from('{"type":"delete"}\n')]);
    assert.deepStrictEqual(read(more, more.length), { vms: objects, done: true, left: 18 });
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
    assert.deepStrictEqual(read(other, 7).vms, objects);
  });

  it('reads any objects as JSON.parse does', () => {
    const objectArray = fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()));
    fc.assert(
      fc.property(objectArray, fc.integer({ min: 1, max: 50 }), (vms, step) => {
        const text = JSON.stringify(vms);
        assert.deepStrictEqual(read(readyLine(text), step).vms, JSON.parse(text));
      }),
    );
  });

  it('wipes the memory in which it read a VM', () => {
    const seen: Buffer[] = [];
    const reader = new SnapshotParser((json) => seen.push(json));
    const large = { uuid: 'large', padding: 'x'.repeat(100_000) };
    reader.push(readyLine(JSON.stringify([...objects, large, ...objects])));
    assert.strictEqual(seen.length, 2 * objects.length + 1);
    assert.ok(seen.every((json) => json.every((byte) => byte === 0)));
  });

  it('parses an empty list of VMs', () => {
    assert.deepStrictEqual(read(readyLine('[]'), 5), { vms: [], done: true, left: 0 });
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
