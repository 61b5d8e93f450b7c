import assert from 'node:assert';
import fc from 'fast-check';
import { listKeys, listNeedsNamespaces } from '../../src/metadata/keys';
import { buildText, scanText } from '../../src/platform/metadata-text';
import { editPieces } from '../../src/writes/json-edit';
import { editText, indexOf } from '../support/metadata-text';

/** What a reader of the text would see by JSON.parse: own members, in the order of the runtime. */
function parsedMaps(text: string): [unknown[], unknown[]] | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    return undefined;
  }
  const [customer, internal] = ['customer_metadata', 'internal_metadata'].map((name) => {
    const value: unknown = Object.hasOwn(parsed, name) ? Reflect.get(parsed, name) : undefined;
    const isMap = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isMap ? entriesOf(value) : [];
  });
  return [customer ?? [], internal ?? []];
}

/** Lone halves of surrogate pairs in names become U+FFFD: two names can be one then, which means the last of them. */
function entriesOf(map: object): [string, unknown][] {
  const entries = Object.entries(map).map(([key, value]) => {
    return [Buffer.from(key).toString(), value] as const;
  });
  return [...new Map(entries)];
}

function indexedMaps(text: Buffer): [unknown[], unknown[]] | undefined {
  const index = indexOf(text);
  const maps = index?.mapsIn(text);
  return maps === undefined ? undefined : [[...maps.customer], [...maps.internal]];
}

const both = (text: string): void => {
  const bytes = Buffer.from(text);
  assert.deepStrictEqual(indexedMaps(bytes), parsedMaps(bytes.toString('utf8')), text);
};

describe('an index of a metadata file', () => {
  it('accepts and rejects the same texts as JSON.parse', () => {
    const texts = [
      ...['{}', ' {} ', '[]', 'null', '"a"', '{', '}', '{}}', '{},', '{"a"}', '{"a":}', '{a:1}'],
      ...['{"a":1,}', '{,"a":1}', '{"a":1 "b":2}', '{"a":[1,]}', '{"a":[,1]}', '{"a":[1 2]}'],
      ...['01', '-', '-0', '1.', '.5', '1.5', '1e', '1e+', '1e+5', '1E-5', '0x1', '1_0'].map(
        (number) => `{"customer_metadata":{"n":${number}}}`,
      ),
      ...['tru', 'true', 'nul', 'NaN', 'Infinity', 'undefined', "'a'"].map((v) => `{"a":${v}}`),
      ...[
        '\\"',
        '\\x',
        '\\u12',
        '\\u12g4',
        '\\u00e9',
        '\\ud83d\\ude00',
        '\\ud83d',
        '\n',
        '\x1f',
        '\x7f',
      ].map((part) => `{"customer_metadata":{"k${part}":"v${part}"}}`),
      ...['\ufeff{}', '\u00a0{}', '{\u2028}', '{}\0', '\f{}', '{"a":"\u2028"}'],
      '['.repeat(5000),
      `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`,
      `{"a":${'{"a":'.repeat(3000)}1${'}'.repeat(3000)}}`,
    ];
    texts.forEach(both);
  });

  it('reads own members only: of doubled names the last, names of prototypes as names, numbers first', () => {
    both('{"customer_metadata":{"b":"1","a":"2","b":"3"},"internal_metadata":{"x":1}}');
    both('{"customer_metadata":{"a":"1"},"customer_metadata":{"b":"2"}}');
    both('{"customer_metadata":{"a":"1"},"customer_metadata":null,"internal_metadata":["a"]}');
    both(
      '{"customer_metadata":{"__proto__":"p","constructor":"c","10":1,"9":2,"z":3,"-1":4,"007":5}}',
    );
    both(
      '{"\\u0063ustomer_metadata":{"\\u0061":"\\u00e9"},"internal_metadat\\u0061":{"b":[{"c":"]"}]}}',
    );
    both(
      '{"other":{"customer_metadata":{"a":1}},"customer_metadata":{"b":{"customer_metadata":{}}}}',
    );
  });

  it('reads any text as JSON.parse does, cut or changed anywhere', () => {
    const key = fc.oneof(fc.string(), fc.constantFrom('__proto__', '10', 'é\n', '\ud800'));
    const map = fc.dictionary(key, fc.jsonValue(), { maxKeys: 5 });
    const file = fc
      .tuple(map, map, fc.jsonValue())
      .map(([customer, internal, other]) =>
        JSON.stringify(
          { other, customer_metadata: customer, internal_metadata: internal },
          null,
          1,
        ),
      );
    const at = fc.double({ min: 0, max: 1, noNaN: true });
    const byte = fc.oneof(fc.nat(255), fc.constantFrom(...Buffer.from('{}[]",:\\ue0-')));
    fc.assert(
      fc.property(file, at, byte, (text, place, changed) => {
        const bytes = Buffer.from(text);
        const offset = Math.floor(place * (bytes.length - 1));
        const other = Buffer.from(bytes);
        other[offset] = changed;
        for (const variant of [bytes, other, bytes.subarray(0, offset)]) {
          assert.deepStrictEqual(indexedMaps(variant), parsedMaps(variant.toString('utf8')));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('knows how long a value is before it is decoded', () => {
    const values = ['', 'plain', 'é\u{1f980}', '"\\/\b\n', '\u0001\u007f', 'a\ud800b'];
    const text = Buffer.from(
      JSON.stringify({ customer_metadata: Object.fromEntries(values.map((v, n) => [`k${n}`, v])) }),
    );
    const index = indexOf(text);
    for (const [n, value] of values.entries()) {
      const number = index?.find('customer', `k${n}`) ?? -1;
      assert.strictEqual(index?.member(number).valueBytes, Buffer.byteLength(value), value);
    }
  });

  it('finds every member by its name, and all of those with one name', () => {
    const names = ['b', 'a', 'é', '', '\u{1f980}', 'ab', 'b', '0', 'a', 'k'.repeat(300)];
    const members = names.map((name, n) => `${JSON.stringify(name)}:"${n}"`).join(',');
    const text = Buffer.from(`{"internal_metadata":{${members}},"customer_metadata":{"a":"0"}}`);
    const index = indexOf(text);
    assert(index !== undefined);
    const { customer, internal } = index.mapsIn(text);
    // Twice: what was found is remembered.
    for (const name of [...names, ...names]) {
      assert.strictEqual(internal.get(name), String(names.lastIndexOf(name)), name);
      assert.strictEqual(
        index.membersNamed('internal', name).length,
        names.filter((other) => other === name).length,
      );
    }
    assert.deepStrictEqual(
      ['a', 'b', '', 'aa'].map((name) => customer.get(name)),
      ['0', undefined, undefined, undefined],
    );
    assert.deepStrictEqual([customer.size, internal.size], [1, 8]);
  });

  it('counts what the guest has put there as the sizes of its members', () => {
    const text = Buffer.from(
      '{"customer_metadata":{"a" : "1","b":2,"a":"333"},"internal_metadata":{"x_pw":"p","y":"q"}}',
    );
    const index = indexOf(text);
    const bytes = ['"a":"333",', '"b":2,', '"x_pw":"p",'].join('').length;
    assert.deepStrictEqual(index?.use, { bytes, keys: 3 });
  });

  it('lists the same names as the rules do, whatever they are', () => {
    const part = fc.constantFrom('sdc', 'foo', ':', '_pw', 'a', '\n', '', ' ', '7', 'é', '\x7f');
    const name = fc.array(part, { maxLength: 5 }).map((parts) => parts.join(''));
    const names = fc.array(name, { maxLength: 12 });
    const spaces = fc.uniqueArray(fc.constantFrom('foo', 'a', 'sdc', ''), { maxLength: 3 });
    fc.assert(
      fc.property(names, names, spaces, (customer, internal, namespaces) => {
        const [one, other] = [customer, internal].map((keys) => {
          return Object.fromEntries(keys.map((key) => [key, 'v']));
        });
        const text = Buffer.from(
          JSON.stringify({ customer_metadata: one, internal_metadata: other }),
        );
        const maps = indexOf(text)?.mapsIn(text);
        assert(maps !== undefined);
        const plain = {
          customer: new Map(Object.entries(one ?? {})),
          internal: new Map(Object.entries(other ?? {})),
        };
        assert.deepStrictEqual(listKeys(maps, namespaces), listKeys(plain, namespaces));
        assert.strictEqual(listNeedsNamespaces(maps), listNeedsNamespaces(plain));
      }),
      { numRuns: 1000 },
    );
  });

  it('keeps bytes that are not UTF-8, and reads them as the runtime does', () => {
    const text = Buffer.from('{"customer_metadata":{"k\xff":"v\xfe\xff","b":"1"}}', 'latin1');
    assert.deepStrictEqual(indexedMaps(text), parsedMaps(text.toString('utf8')));
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 6, min: 0x70 });
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 4 }), (names) => {
        const members = names.map((name) => `"${Buffer.from(name).toString('latin1')}":1`);
        const map = Buffer.from(`{"customer_metadata":{${members.join(',')}}}`, 'latin1');
        assert.deepStrictEqual(indexedMaps(map), parsedMaps(map.toString('utf8')));
      }),
      { numRuns: 2000 },
    );
    const edited = editText(text, new Map([['b', '2']]));
    assert.strictEqual(edited.toString('latin1'), text.toString('latin1').replace('"1"', '"2"'));
  });

  it('distinguishes a blank file from a damaged one', () => {
    assert.deepStrictEqual(
      ['', ' \r\n\t', '\0', '[]', '{'].map((text) => scanText(Buffer.from(text))),
      ['blank', 'blank', 'no JSON object', 'no JSON object', 'no JSON object'],
    );
  });

  it('rejects a file of too many members', () => {
    const members = Array.from({ length: 32_769 }, (_, n) => `"${n}":1`).join(',');
    assert.strictEqual(
      scanText(Buffer.from(`{"customer_metadata":{${members}}}`)),
      'too many members',
    );
  });
});

describe('a text that is built of pieces', () => {
  const text = Buffer.from('{"customer_metadata":{"a":"1","b":"2"},"internal_metadata":{"c":"3"}}');
  const edits = { customer: new Map([['a', 'x']]), internal: new Map<string, string>() };

  const refused = (change: (words: Uint32Array, literals: Buffer, counts: Uint32Array) => void) => {
    const index = indexOf(text);
    assert(index !== undefined);
    const pieces = editPieces(index, text.length, edits);
    change(pieces.words, pieces.literals, pieces.counts);
    assert.throws(() => buildText(text, pieces), /cannot be edited safely/);
  };

  it('is refused where it is not JSON', () => {
    refused((_words, literals) => literals.fill(0x22));
  });

  it('is refused where a member would be lost, or be another one', () => {
    refused((words) => (words[words.length - 2] = text.indexOf('},"internal')));
    for (const [place, wrong] of [
      [2, 2],
      [2, 0],
      [4, 1],
      [5, 2],
    ] as const) {
      refused((_words, _literals, counts) => (counts[place] = wrong));
    }
  });

  it('is refused where a piece lies outside of the text', () => {
    refused((words) => (words[words.length - 1] = text.length + 1));
  });
});
