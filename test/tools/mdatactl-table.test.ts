/*
 * Tables and paragraphs that fit a terminal.
 */
import assert from 'node:assert';
import { coloured, plain } from '../../tools/mdatactl/paint';
import { recordLine } from '../../tools/mdatactl/record-line';
import { cut, paragraph, remedyLines, table, type Column } from '../../tools/mdatactl/table';

const COLUMNS: readonly Column[] = [
  { title: 'NAME', least: 4 },
  { title: 'ALIAS', soft: 8, least: 4 },
  { title: 'COUNT', align: 'right' },
];
const ROWS = [
  [{ text: 'a-long-zone-name' }, { text: 'an-alias-of-14' }, { text: '7' }],
  [{ text: 'b' }, { text: 'c' }, { text: '12345' }],
];

describe('tables of mdatactl', () => {
  it('are as wide as they must be where there is room', () => {
    assert.deepStrictEqual(table(COLUMNS, ROWS, { width: 80, paint: plain }), [
      'NAME             ALIAS          COUNT',
      'a-long-zone-name an-alias-of-14     7',
      'b                c              12345',
    ]);
  });

  it('cut soft columns first, then others, and never one that may not be cut', () => {
    const lines = (width: number): string[] => table(COLUMNS, ROWS, { width, paint: plain });
    assert.strictEqual(lines(31)[1], 'a-long-zone-name an-alia\u2026     7');
    assert.strictEqual(lines(25)[1], 'a-long-zo\u2026 an-alia\u2026     7');
    for (const width of [16, 20, 25, 31]) {
      assert(
        lines(width).every((line) => line.length <= width),
        `fits ${width}`,
      );
    }
    assert.strictEqual(lines(5)[2], 'b    c    12345');
  });

  it('colour cells without moving them', () => {
    const rows = [[{ text: 'x', colour: 'red' as const }, { text: 'y' }, { text: '1' }]];
    const [, line = ''] = table(COLUMNS, rows, { width: 80, paint: coloured });
    assert.strictEqual(line, '\u001b[31mx   \u001b[0m y         1');
  });

  it('wrap text between words, beside its label, and leave what is longer than a line whole', () => {
    assert.deepStrictEqual(paragraph('label', 'one two three four', 8, 28), [
      'label   one two three four',
    ]);
    assert.deepStrictEqual(paragraph('label', 'one two three four five', 8, 28), [
      'label   one two three four',
      '        five',
    ]);
    const path = '/a/path/that/is/longer/than/a/line';
    assert.deepStrictEqual(paragraph('', `at ${path} now`, 2, 24), ['  at', `  ${path}`, '  now']);
  });

  it('keep a line for a shell in one piece', () => {
    const remedy = `vmadm update UUID <<<'{"limit_priv":"default,-sys_fs_import"}'`;
    assert.deepStrictEqual(remedyLines(remedy, 4, 30), [`    -> ${remedy}`]);
  });

  it('cut text to the room there is', () => {
    assert.deepStrictEqual([cut('abc', 3), cut('abcd', 3), cut('a', 1)], ['abc', 'ab\u2026', 'a']);
  });

  it('show a record on one line, its query by what the message does not say', () => {
    const record = {
      time: '2026-03-02T09:14:07.123Z',
      level: 30,
      zonename: 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6',
      brand: 'lx',
      msg: 'handled GET key',
      response: 'SUCCESS',
      query: { cmd: 'GET', arg: 'key', req_v: 2, elapsed: 0.4321 },
      text: 'two words',
    };
    assert.strictEqual(
      recordLine(record, { width: 200, paint: plain }),
      '09:14:07.123 INFO  a5894692 handled GET key response=SUCCESS elapsed=0.43ms text="two words"',
    );
    assert(recordLine(record, { width: 60, paint: plain }).length <= 60);
    const err = { message: 'write(/zones/a5894692-bd32-4ca1-908a-e2dda3c3a5e6/config/x): ENOSPC' };
    for (const level of [40, 'warn', 50, 'error']) {
      const grave = { ...record, level, msg: 'could not update metadata', err };
      assert.match(recordLine(grave, { width: 60, paint: plain }), /ENOSPC"/);
    }
  });
});
