import assert from 'node:assert';
import fc from 'fast-check';
import { importGrant, parsePrivileges, withoutImport } from '../../src/metadata/privileges';
import type { ImportGrant, Privilege } from '../../src/metadata/privileges';

function read(value: unknown): readonly Privilege[] {
  const list = parsePrivileges(value);
  assert(list.kind === 'list', JSON.stringify(value));
  return list.items;
}

function grant(value: unknown): ImportGrant {
  return importGrant(read(value));
}

function complaint(value: unknown): string {
  const list = parsePrivileges(value);
  assert(list.kind === 'malformed', JSON.stringify(value));
  return list.text;
}

/** The set that the platform would make of a list that starts with a name, privilege by privilege. */
function slowSet(words: readonly string[]): Set<string> {
  const sets: Readonly<Record<string, readonly string[]>> = {
    default: ['sys_fs_import', 'proc_fork', 'net_access', 'sys_mount'],
    basic: ['proc_fork', 'net_access'],
    all: ['sys_fs_import', 'proc_fork', 'net_access', 'sys_mount', 'sys_time'],
    zone: ['sys_fs_import', 'proc_fork', 'net_access', 'sys_mount', 'sys_time'],
  };
  const result = new Set<string>();
  for (const word of words) {
    const removed = /^[!-]/.test(word);
    const name = word.replace(/^[!-]/, '');
    for (const privilege of sets[name] ?? [name]) {
      if (removed) {
        result.delete(privilege);
      } else {
        result.add(privilege);
      }
    }
  }
  return result;
}

const NAMES = ['default', 'basic', 'all', 'zone', 'sys_fs_import', 'proc_fork', 'sys_time'];
const wordArb = fc
  .tuple(fc.constantFrom('', '', '!', '-'), fc.constantFrom(...NAMES))
  .map(([sign, name]) => `${sign}${name}`);
const wordsArb = fc
  .tuple(fc.constantFrom(...NAMES), fc.array(wordArb, { maxLength: 6 }))
  .map(([first, rest]) => [first, ...rest]);

describe('privileges', () => {
  it('reads names, sets, and removals in both notations', () => {
    assert.deepStrictEqual(read('default,!proc_info,-net_access,dtrace_user'), [
      { name: 'default', removed: false },
      { name: 'proc_info', removed: true },
      { name: 'net_access', removed: true },
      { name: 'dtrace_user', removed: false },
    ]);
  });

  it('reads an array as the list with commas', () => {
    assert.deepStrictEqual(read(['basic', '-proc_info']), read('basic,-proc_info'));
    assert.deepStrictEqual(read([]), []);
  });

  it('takes a name for the same in any case, with its prefix, between blanks', () => {
    for (const name of [
      'SYS_FS_IMPORT',
      'priv_sys_fs_import',
      'PRIV_Sys_Fs_Import',
      ' sys_fs_import',
    ]) {
      assert.strictEqual(grant(`basic,${name}`), 'named', name);
      assert.strictEqual(grant(['basic', name]), 'named', name);
    }
    assert.strictEqual(grant('Default,!PRIV_SYS_FS_IMPORT'), 'none');
  });

  it('takes a list that says nothing for default', () => {
    for (const nothing of [undefined, null, '', ' ', ',', ' , ,', []]) {
      assert.strictEqual(grant(nothing), 'default');
    }
  });

  it('tells a grant by name from one that comes with default', () => {
    assert.strictEqual(grant('default'), 'default');
    assert.strictEqual(grant('default,-proc_info'), 'default');
    assert.strictEqual(grant('default,dtrace_user'), 'default');
    assert.strictEqual(grant('default,sys_fs_import'), 'named');
    assert.strictEqual(grant('all'), 'named');
    assert.strictEqual(grant('all,!proc_info'), 'named');
    assert.strictEqual(grant('zone'), 'named');
    assert.strictEqual(grant('basic,sys_fs_import'), 'named');
  });

  it('sees no grant in what leaves sys_fs_import out', () => {
    for (const list of [
      'basic',
      'basic,dtrace_user',
      'default,-sys_fs_import',
      'all,!sys_fs_import',
    ]) {
      assert.strictEqual(grant(list), 'none', list);
    }
    assert.strictEqual(grant('basic,sys_fs_import_x,sys_fs'), 'none');
  });

  it('lets the last word on a privilege win', () => {
    assert.strictEqual(grant('default,-sys_fs_import,sys_fs_import'), 'named');
    assert.strictEqual(grant('default,sys_fs_import,!sys_fs_import'), 'none');
    assert.strictEqual(grant('default,-sys_fs_import,default'), 'default');
    assert.strictEqual(grant('default,-all,proc_fork'), 'none');
  });

  it('takes a list of removals alone for default without them', () => {
    assert.strictEqual(grant('-proc_info'), 'default');
    assert.strictEqual(grant('!sys_fs_import'), 'none');
  });

  it('agrees with the set that the list adds up to', () => {
    fc.assert(
      fc.property(wordsArb, (words) => {
        const holds = slowSet(words).has('sys_fs_import');
        assert.strictEqual(grant(words.join(',')) !== 'none', holds, words.join(','));
      }),
      { numRuns: 2000 },
    );
  });

  it('takes the privilege out of every list, once for all, and keeps what was written', () => {
    fc.assert(
      fc.property(wordsArb, (words) => {
        const text = words.join(',');
        const without = withoutImport(text);
        assert.strictEqual(without, `${text},-sys_fs_import`);
        assert.strictEqual(grant(without), 'none');
        assert.deepStrictEqual(withoutImport(words), [...words, '-sys_fs_import']);
      }),
    );
    for (const nothing of [undefined, null, '', ' , ', []]) {
      assert.strictEqual(withoutImport(nothing), 'default,-sys_fs_import');
    }
    assert.strictEqual(withoutImport('default, '), 'default,-sys_fs_import');
  });

  it('refuses what is no list, each in its own words', () => {
    assert.match(complaint(7), /neither a text nor a list of texts/);
    assert.match(complaint(['default', 7]), /neither a text nor a list of texts/);
    assert.match(complaint({ default: true }), /neither a text nor a list of texts/);
    assert.match(complaint('default,!'), /"!" is no privilege/);
    assert.match(complaint('default,!!proc_info'), /"!!proc_info" is no privilege/);
    assert.match(complaint('default proc_info'), /"default proc_info" is no privilege/);
    assert.match(complaint("x';reboot"), /no privilege/);
    assert(complaint('!'.repeat(5000)).length < 200);
  });
});
