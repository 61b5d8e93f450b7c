import assert from 'node:assert';
import fc from 'fast-check';
import { jsonBytesOf } from '../../src/platform/metadata-text';
import { editText } from '../support/metadata-text';

/** Short for the name of the map that is edited. */
const long = (text: string): string => text.replaceAll('"m"', '"customer_metadata"');
const short = (text: string): string => text.replaceAll('"customer_metadata"', '"m"');

function edit(text: string, edits: Record<string, string | undefined>): string {
  return short(editText(Buffer.from(long(text)), new Map(Object.entries(edits))).toString('utf8'));
}

describe('an edit by position', () => {
  it('changes no byte but those of the value', () => {
    const text =
      '{\n "big": 12345678901234567890.10, "m": { "a" : "x\\u00e9" ,"b":1e400 }, "z":[1.0]}\n';
    assert.strictEqual(edit(text, { a: 'y' }), text.replace('"x\\u00e9"', '"y"'));
  });

  it('writes the UTF-8 of a value as JSON.stringify writes the string', () => {
    const check = (value: string): void => {
      const bytes = new Map([['a', Buffer.from(value)]]);
      const edited = editText(Buffer.from('{"customer_metadata":{"b":1}}'), bytes);
      const json = JSON.stringify(value);
      assert.strictEqual(edited.toString(), `{"customer_metadata":{"b":1,"a":${json}}}`);
      assert.strictEqual(jsonBytesOf(Buffer.from(value)), Buffer.byteLength(json));
    };
    const all = Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code));
    all.forEach(check);
    check(all.join(''));
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 40 }), check));
  });

  it('makes a map that is missing or null of the UTF-8 of a value', () => {
    for (const text of ['{}', '{"customer_metadata":null}']) {
      const edited = editText(Buffer.from(text), new Map([['a', Buffer.from('"')]]));
      assert.strictEqual(edited.toString(), '{"customer_metadata":{"a":"\\""}}');
    }
  });

  it('adds a new member last, and leaves the layout of the others', () => {
    const text = JSON.stringify({ m: { a: '1', b: '2' }, n: {} }, null, 2);
    assert.strictEqual(edit(text, { c: '3' }), text.replace('"2"', '"2","c":"3"'));
    assert.strictEqual(edit('{"m":{ }}', { c: '3' }), '{"m":{"c":"3" }}');
  });

  it('removes members with one comma each', () => {
    const text = '{"m":{"a":1, "b":2, "c":3}}';
    assert.strictEqual(edit(text, { a: undefined }), '{"m":{"b":2, "c":3}}');
    assert.strictEqual(edit(text, { b: undefined }), '{"m":{"a":1, "c":3}}');
    assert.strictEqual(edit(text, { c: undefined }), '{"m":{"a":1, "b":2}}');
    assert.strictEqual(edit(text, { a: undefined, b: undefined }), '{"m":{"c":3}}');
    assert.strictEqual(edit(text, { b: undefined, c: undefined }), '{"m":{"a":1}}');
    assert.strictEqual(edit(text, { a: undefined, b: undefined, c: undefined }), '{"m":{}}');
    assert.strictEqual(
      edit(text, { a: undefined, b: undefined, c: undefined, d: '4' }),
      '{"m":{"d":"4"}}',
    );
  });

  it('creates a map that is missing or null, but not for a removal', () => {
    assert.strictEqual(edit('{}', { a: '1' }), '{"m":{"a":"1"}}');
    assert.strictEqual(edit('{"m":null}', { a: '1' }), '{"m":{"a":"1"}}');
    assert.strictEqual(edit('{"n":{}}', { a: '1' }), '{"n":{},"m":{"a":"1"}}');
    assert.strictEqual(edit('{"n":{}}', { a: undefined }), '{"n":{}}');
  });

  it('changes the one of doubled names that readers see, and removes both', () => {
    assert.strictEqual(edit('{"m":{"a":1,"a":2}}', { a: '3' }), '{"m":{"a":1,"a":"3"}}');
    assert.strictEqual(edit('{"m":{"a":1,"b":0,"a":2}}', { a: undefined }), '{"m":{"b":0}}');
  });

  it('compares names by their meaning, those of prototypes too', () => {
    assert.strictEqual(edit('{"m":{"\\u0061":1}}', { a: '2' }), '{"m":{"\\u0061":"2"}}');
    assert.strictEqual(
      edit('{"m":{"__proto__":{"x":1},"b":2}}', { b: '3' }),
      '{"m":{"__proto__":{"x":1},"b":"3"}}',
    );
  });

  it('ignores braces, commas and quotes in strings', () => {
    const text = '{"x":"{\\"m\\":{", "m":{"a":"},\\\\","b":["]",{"a":9}]}}';
    assert.strictEqual(edit(text, { a: '0' }), text.replace('"},\\\\"', '"0"'));
  });

  it('finds the end of a string behind any run of backslashes and quotes', () => {
    for (let run = 0; run < 6; run++) {
      for (const value of [
        '\\'.repeat(run),
        `${'\\'.repeat(run)}"`,
        '"\\'.repeat(run),
        '"'.repeat(run),
      ]) {
        const text = JSON.stringify({ x: value, m: { [value]: value, a: 'old' } });
        const wanted = JSON.stringify({ x: value, m: { [value]: value, a: 'new' } });
        assert.strictEqual(edit(text, { a: 'new' }), wanted);
      }
    }
  });

  it('finds it behind long runs without any, wherever they end', () => {
    for (let length = 60; length <= 70; length++) {
      for (const end of ['', '\\', '"', '\\"', '"\\', '\n"', 'caf\u00e9"']) {
        const value = ('v'.repeat(length) + end).repeat(3);
        const text = JSON.stringify({ m: { a: value, b: 'old' }, n: value });
        const wanted = JSON.stringify({ m: { a: value, b: 'new' }, n: value });
        assert.strictEqual(edit(text, { b: 'new' }), wanted);
      }
    }
  });

  it('takes a time that grows with the text, not with its square, whatever escapes are in it', () => {
    const value = `${'v'.repeat(70)}\n`;
    const timeOf = (times: number): number => {
      const text = Buffer.from(long(JSON.stringify({ m: { a: value.repeat(times) } })));
      const began = performance.now();
      editText(text, new Map([['b', '1']]));
      return performance.now() - began;
    };
    timeOf(1000);
    const small = Math.min(...[1, 2, 3].map(() => timeOf(2500)));
    const large = Math.min(...[1, 2, 3].map(() => timeOf(40_000)));
    assert.ok(large < 100 * small + 20, `${small} ms, ${large} ms for 16 times as much`);
  });

  it('does what a Map does, for any text and edits', () => {
    const key = fc.oneof(fc.constantFrom('a', 'b', '1', '__proto__', 'constructor'), fc.string());
    const maps = fc.array(fc.tuple(key, fc.jsonValue()), { maxLength: 6 });
    const edits = fc.array(fc.tuple(key, fc.option(fc.string(), { nil: undefined })), {
      maxLength: 6,
    });
    const indent = fc.constantFrom(undefined, 2, '\t');
    fc.assert(
      fc.property(maps, edits, indent, (members, changes, space) => {
        const object = Object.fromEntries(members);
        const text = JSON.stringify(
          { before: 1, customer_metadata: object, after: [object] },
          null,
          space,
        );
        const wanted = new Map(Object.entries(object).map(([k, v]): [string, unknown] => [k, v]));
        for (const [k, v] of new Map(changes)) {
          if (v === undefined) {
            wanted.delete(k);
          } else {
            wanted.set(k, v);
          }
        }
        const result: unknown = JSON.parse(
          editText(Buffer.from(text), new Map(changes)).toString('utf8'),
        );
        const expected = {
          before: 1,
          customer_metadata: Object.fromEntries(wanted),
          after: [object],
        };
        assert.deepStrictEqual(result, JSON.parse(JSON.stringify(expected)));
      }),
    );
  });
});
