/*
 * Tables with -H, -p, -o and -s.
 */
import assert from 'node:assert';
import { listing, ListingError, type Field, type ListingOptions } from '../../tools/listing';

interface Row {
  readonly uuid: string;
  readonly alias: string | null;
  readonly ram: number;
}

const A = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const B = '54f1cc77-68f1-42ab-acac-5c4f64f5d6e0';
const ROWS: readonly Row[] = [
  { uuid: A, alias: 'web:0', ram: 1024 },
  { uuid: B, alias: null, ram: 256 },
];
const FIELDS: readonly Field<Row>[] = [
  { name: 'uuid', also: 'zone', title: 'UUID', value: (row) => row.uuid },
  { name: 'alias', title: 'ALIAS', value: (row) => row.alias },
  {
    name: 'ram',
    title: 'RAM',
    align: 'right',
    value: (row) => row.ram,
    text: (row) => `${row.ram} MiB`,
  },
];

function lines(options: ListingOptions, terminal = false, rows = ROWS): string[] {
  return listing(FIELDS, 'uuid,alias,ram', rows, options, {
    terminal,
    paint: (_colour, text) => text,
  });
}

describe('a listing', () => {
  it('is whole in a pipe', () => {
    assert.deepStrictEqual(lines({}), [
      'UUID                                  ALIAS       RAM',
      `${A}  web:0  1024 MiB`,
      `${B}  -       256 MiB`,
    ]);
  });

  it('shows eight digits of a uuid on a terminal, and all of the rest', () => {
    const alias = 'an-alias-that-is-longer-than-any-terminal-is-wide'.repeat(3);
    const [, line] = lines({ fields: 'uuid,alias' }, true, [{ uuid: A, alias, ram: 1 }]);
    assert.strictEqual(line, `a5894692  ${alias}`);
  });

  it('aligns cells by their width on a terminal, which is not their length', () => {
    const rows = [
      { uuid: 'a', alias: '\u65e5\u672c', ram: 1 },
      { uuid: 'b', alias: 'ascii', ram: 2 },
    ];
    assert.deepStrictEqual(lines({ fields: 'alias,uuid', noHeader: true }, false, rows), [
      '\u65e5\u672c   a',
      'ascii  b',
    ]);
  });

  it('takes the other name of a field too', () => {
    assert.deepStrictEqual(lines({ fields: 'zone', sort: '-zone' }), ['UUID', A, B]);
  });

  it('leaves the header out with -H', () => {
    assert.deepStrictEqual(lines({ noHeader: true, fields: 'ram' }), ['1024 MiB', ' 256 MiB']);
  });

  it('gives scripts bare values between colons, and no header, with -p, escaping those within', () => {
    assert.deepStrictEqual(lines({ parsable: true }), [`${A}:web\\:0:1024`, `${B}::256`]);
    assert.deepStrictEqual(lines({ parsable: true, fields: 'alias' }), ['web\\:0', '']);
  });

  it('sorts by values, not by texts, and puts rows without a value last', () => {
    const ram = (sort: string): string[] => lines({ sort, parsable: true, fields: 'ram' });
    assert.deepStrictEqual(ram('ram'), ['256', '1024']);
    assert.deepStrictEqual(ram('-ram'), ['1024', '256']);
    assert.deepStrictEqual(ram('alias'), ['1024', '256']);
    assert.deepStrictEqual(ram('-alias,ram'), ['1024', '256']);
  });

  it('says which fields there are where one is asked for that there is not', () => {
    assert.throws(() => lines({ fields: 'nope' }), ListingError);
    assert.throws(
      () => lines({ sort: '-nope' }),
      /no field is named nope; there are uuid, alias, ram/,
    );
  });
});
