/*
 * The guide to the source (src/README.md) and the threat model: every file and function that they name is there.
 */
import assert from 'node:assert';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const SRC = resolve(__dirname, '..', '..', 'src');
const GUIDE = readFileSync(join(SRC, 'README.md'), 'utf8').replace(/\s+/g, ' ');

/** Files that are named, each with the name that follows it. */
function named(): { file: string; name: string | undefined }[] {
  return [...GUIDE.matchAll(/`([a-z/-]+\.ts)`(?: `([A-Za-z]+)`)?/g)].map(([, file = '', name]) => ({
    file,
    name,
  }));
}

describe('the guide to the source', () => {
  it('names files that exist', () => {
    const missing = named().filter(
      ({ file }) => ![file, `../${file}`].some((path) => existsSync(join(SRC, path))),
    );
    assert.deepStrictEqual(missing, []);
    assert(named().length > 20);
  });

  it('names functions and classes that are in the file beside them', () => {
    const missing = named().filter(({ file, name }) => {
      const text = readFileSync(join(SRC, file.startsWith('test/') ? `../${file}` : file), 'utf8');
      return (
        name !== undefined &&
        !new RegExp(`(function|class|async|^ *get|^) *${name}\\b[(<{ ]`, 'm').test(text)
      );
    });
    assert.deepStrictEqual(missing, []);
  });

  it('has a row for each directory', () => {
    const rows = [...GUIDE.matchAll(/\| `([a-z]+)` +\| [a-z]/gi)].map(
      ([, directory = '']) => directory,
    );
    const directories = readdirSync(SRC, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== 'types')
      .map((entry) => entry.name);
    assert.deepStrictEqual(
      directories.filter((directory) => !rows.includes(directory)),
      [],
    );
  });
});

describe('the threat model', () => {
  it('names tests that exist, one at least for each party', () => {
    const top = resolve(SRC, '..');
    const text = readFileSync(join(top, '.github', 'SECURITY.md'), 'utf8');
    const tests = [...text.matchAll(/`(test\/[a-z/-]+)`/g)].map(([, path = '']) => path);
    assert.deepStrictEqual(
      tests.filter((path) => !existsSync(join(top, `${path}.test.ts`))),
      [],
    );
    const rows = text.split('\n').filter((line) => line.startsWith('|') && !line.includes('---'));
    assert.deepStrictEqual(
      rows.slice(1).filter((row) => !row.includes('`test/')),
      [],
    );
  });
});
