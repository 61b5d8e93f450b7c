/*
 * Paragraphs and records that fit a terminal.
 */
import assert from 'node:assert';
import { plain } from '../../tools/screen';
import { recordLine } from '../../tools/mdatactl/records';
import { cut, paragraph, remedyLine } from '../../tools/mdatactl/text';

describe('texts of mdatactl', () => {
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
    assert.strictEqual(remedyLine(remedy, 4), `    -> ${remedy}`);
  });

  it('cut text to the room there is', () => {
    assert.deepStrictEqual([cut('abc', 3), cut('abcd', 3), cut('a', 1)], ['abc', 'ab\u2026', 'a']);
    const wide = '\u65e5\u672c\u8a9e';
    assert.deepStrictEqual([cut(wide, 6), cut(wide, 5)], [wide, '\u65e5\u672c\u2026']);
    assert.deepStrictEqual(paragraph('', `${wide.repeat(3)} ${wide}`, 0, 20), [
      wide.repeat(3),
      wide,
    ]);
  });

  it('show a record on one line, its query by what the message does not say', () => {
    const record = {
      time: '2026-03-02T09:14:07.123Z',
      level: 30,
      zonename: 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6',
      brand: 'lx',
      msg: 'handled GET',
      response: 'SUCCESS',
      query: { cmd: 'GET', arg: 'key', req_v: 2, elapsed: 0.4321 },
      text: 'two words',
    };
    assert.strictEqual(
      recordLine(record, { width: 200, paint: plain, terminal: false }),
      '09:14:07.123 INFO  a5894692 handled GET key response=SUCCESS elapsed=0.43ms text="two words"',
    );
    assert(recordLine(record, { width: 60, paint: plain, terminal: false }).length <= 60);
    const err = { message: 'write(/zones/a5894692-bd32-4ca1-908a-e2dda3c3a5e6/config/x): ENOSPC' };
    for (const level of [40, 'warn', 50, 'error']) {
      const grave = { ...record, level, msg: 'could not update metadata', err };
      assert.match(recordLine(grave, { width: 60, paint: plain, terminal: false }), /ENOSPC"/);
    }
  });
});
