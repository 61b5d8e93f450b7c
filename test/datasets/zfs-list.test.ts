import assert from 'node:assert';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { listUsage } from '../../src/datasets/zfs-list';
import { tempDir, type TempDir } from '../support/temp-dir';

describe('the listing of use', () => {
  let dir: TempDir;
  beforeEach(() => (dir = tempDir()));
  afterEach(() => dir.remove());

  function zfs(script: string): string {
    const path = join(dir.path, 'zfs');
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  }

  it('reads what the program prints, asked for names and types alone', async () => {
    const program = zfs(
      '[ "$*" = "list -H -p -t filesystem,volume,snapshot -o name,type" ] && ' +
        'printf "z/a\\tfilesystem\\nz/a@s\\tsnapshot\\nz/a/b\\tvolume\\n"',
    );
    const listed = await listUsage(program);
    assert(listed.kind === 'known');
    assert.deepStrictEqual(listed.usage.get('z/a'), { snapshots: 1, filesystems: 1 });
  });

  it('is not known, and no fault, where there is no such program', async () => {
    const listed = await listUsage(join(dir.path, 'none'));
    assert(listed.kind === 'unknown');
    assert.strictEqual(listed.fault, false);
  });

  for (const [what, script, why] of [
    ['fails', 'echo internal error >&2; exit 1', /EXIT_1.*internal error/],
    ['prints something else', 'echo no tabs here', /line 1 is unreadable/],
  ] as const) {
    it(`is not known, and a fault, where the program ${what}`, async () => {
      const listed = await listUsage(zfs(script));
      assert(listed.kind === 'unknown');
      assert.strictEqual(listed.fault, true);
      assert.match(listed.why, why);
    });
  }
});
