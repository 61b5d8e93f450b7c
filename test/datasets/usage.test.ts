import assert from 'node:assert';
import fc from 'fast-check';
import { listUsage, parseZfsList, type Usage } from '../../src/datasets/usage';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDir, type TempDir } from '../support/temp-dir';

function listed(text: string): ReadonlyMap<string, Usage> {
  const listing = parseZfsList(text);
  assert(listing.kind === 'listed', text);
  return listing.usage;
}

const NODE = `zones\tfilesystem
zones/img@final\tsnapshot
zones/a\tfilesystem
zones/a@vmsnap-one\tsnapshot
zones/a/data\tfilesystem
zones/a/data@1\tsnapshot
zones/a/data/db\tfilesystem
zones/a/data/db@1\tsnapshot
zones/a/data/db@2\tsnapshot
zones/a/data/db#mark\tbookmark
zones/a/data/swap\tvolume
zones/a/data/with space\tfilesystem
zones/a/database\tfilesystem
zones/a/database@1\tsnapshot
zones/b/data\tfilesystem
`;

describe('usage', () => {
  it('counts snapshots of a dataset and below, filesystems and volumes below it', () => {
    const usage = listed(NODE);
    assert.deepStrictEqual(usage.get('zones/a/data'), { snapshots: 3, filesystems: 3 });
    assert.deepStrictEqual(usage.get('zones/a/data/db'), { snapshots: 2, filesystems: 0 });
    assert.deepStrictEqual(usage.get('zones/a'), { snapshots: 5, filesystems: 5 });
    assert.deepStrictEqual(usage.get('zones/b/data'), { snapshots: 0, filesystems: 0 });
    assert.strictEqual(usage.get('zones/c'), undefined);
  });

  it('rejects a listing with a line that it cannot read', () => {
    for (const line of ['zones/a', 'zones/a filesystem', '\tsnapshot', 'a\tfilesystem\t7']) {
      const text = `zones\tfilesystem\n${line}\n`;
      assert.deepStrictEqual(parseZfsList(text), { kind: 'garbled', line: 2 }, line);
    }
    assert.deepStrictEqual(parseZfsList('@x\tsnapshot'), { kind: 'garbled', line: 1 });
    assert.deepStrictEqual(parseZfsList('zones/a\tsnapshot'), { kind: 'garbled', line: 1 });
  });

  it('agrees with a count by hand, dataset by dataset, in any order of lines', () => {
    const pathArb = fc
      .array(fc.constantFrom('a', 'b', 'ab'), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join('/'));
    const lineArb = fc.oneof(
      fc.tuple(pathArb, fc.constantFrom('filesystem', 'volume')),
      fc.tuple(fc.tuple(pathArb, fc.constantFrom('x', 'y')), fc.constant('snapshot')),
    );
    const linesArb = fc
      .array(lineArb, { maxLength: 30 })
      .map((lines) =>
        lines.map(([name, type]) => `${typeof name === 'string' ? name : name.join('@')}\t${type}`),
      )
      .map((lines) => [...new Map(lines.map((line) => [line.split('\t')[0], line])).values()]);
    fc.assert(
      fc.property(linesArb, (lines) => {
        const usage = listed(lines.join('\n'));
        for (const [dataset, counted] of usage) {
          const snapshots = lines.filter(
            (line) =>
              line.endsWith('\tsnapshot') &&
              (line.startsWith(`${dataset}@`) || line.startsWith(`${dataset}/`)),
          );
          const filesystems = lines.filter(
            (line) => !line.endsWith('\tsnapshot') && line.startsWith(`${dataset}/`),
          );
          assert.deepStrictEqual(counted, {
            snapshots: snapshots.length,
            filesystems: filesystems.length,
          });
        }
      }),
    );
  });
});

describe('the listing of use', () => {
  let dir: TempDir;
  beforeEach(() => (dir = tempDir()));
  afterEach(() => dir.remove());

  function zfs(script: string): string {
    const path = join(dir.path, 'zfs');
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  }

  it('reads what the program prints for names and types', async () => {
    const program = zfs(
      '[ "$*" = "list -H -p -t filesystem,volume,snapshot -o name,type" ] && ' +
        'printf "z/a\\tfilesystem\\nz/a@s\\tsnapshot\\nz/a/b\\tvolume\\n"',
    );
    const listed = await listUsage(program);
    assert(listed.kind === 'known');
    assert.deepStrictEqual(listed.usage.get('z/a'), { snapshots: 1, filesystems: 1 });
  });

  it('is unknown, without a fault, where there is no such program', async () => {
    const listed = await listUsage(join(dir.path, 'none'));
    assert(listed.kind === 'unknown');
    assert.strictEqual(listed.fault, false);
  });

  for (const [what, script, why] of [
    ['fails', 'echo internal error >&2; exit 1', /EXIT_1.*internal error/],
    ['prints something else', 'echo no tabs here', /line 1 is unreadable/],
  ] as const) {
    it(`is unknown, with a fault, where the program ${what}`, async () => {
      const listed = await listUsage(zfs(script));
      assert(listed.kind === 'unknown');
      assert.strictEqual(listed.fault, true);
      assert.match(listed.why, why);
    });
  }
});
