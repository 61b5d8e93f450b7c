/*
 * What a person may type for a zone.
 */
import assert from 'node:assert';
import { nearestZones, wholeUuid, zoneMeant } from '../../tools/zone-name';

const A = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const B = 'a5894699-42f1-42ab-acac-5c4f64f5d6e0';
const ZONES = [
  { zonename: A, alias: 'web0' },
  { zonename: B, alias: 'web0-old' },
  { zonename: 'Build', alias: null },
];

function meant(word: string): string[] {
  const found = zoneMeant(word, ZONES);
  switch (found.kind) {
    case 'zone':
      return [found.zonename];
    case 'none':
      return [];
    case 'several':
      return found.candidates.map((line) => line.split(' ')[0] ?? '');
  }
}

describe('the name of a zone', () => {
  it('is its whole name or its alias, whatever begins alike', () => {
    assert.deepStrictEqual(meant(A), [A]);
    assert.deepStrictEqual(meant('web0'), [A]);
    assert.deepStrictEqual(meant('Build'), ['Build']);
  });

  it('is the beginning of its uuid, in any case, with or without an ellipsis', () => {
    for (const word of ['a5894692', 'A5894692', 'a5894692\u2026', 'a5894692...', A.toUpperCase()]) {
      assert.deepStrictEqual(meant(word), [A], word);
    }
  });

  it('can mean several zones, or none', () => {
    assert.deepStrictEqual(meant('a589469'), [A, B]);
    assert.deepStrictEqual(meant('nope'), []);
    assert.deepStrictEqual(meant('...'), []);
    assert.deepStrictEqual(meant(''), []);
  });

  it('is suggested where a word is a slip away from it', () => {
    assert.deepStrictEqual(nearestZones('wbe0', ZONES), [`${A}  web0`]);
    assert.deepStrictEqual(nearestZones('biuld', ZONES), ['Build']);
    assert(nearestZones('a5894629', ZONES).some((line) => line.startsWith(A)));
    assert.deepStrictEqual(nearestZones('nothing-alike', ZONES), []);
    assert.deepStrictEqual(nearestZones('x', ZONES), []);
    assert.deepStrictEqual(nearestZones('', ZONES), []);
  });

  it('is used unchanged where it is a whole uuid', () => {
    assert.strictEqual(wholeUuid(A.toUpperCase()), A);
    assert.strictEqual(wholeUuid('a5894692'), null);
  });
});
