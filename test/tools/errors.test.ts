/*
 * What each program prints when it cannot do its work: the error once, with the file that it is about, and what to do
 * on a line below it.
 */
import assert from 'node:assert';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { needsRoot } from '../support/pending';
import { runProgram } from '../support/simcn';
import { tempDir } from '../support/temp-dir';

const DIST = join(__dirname, '..', '..');
const PROGRAMS = {
  mdatad: 'src/main.js',
  mdatactl: 'tools/mdatactl/main.js',
  simcn: 'tools/simcn/main.js',
  'mdata-get': 'tools/mdata/get.js',
  package: 'tools/package.js',
  man: '../tools/man.js',
} as const;
const NOBODY = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--'];

interface Row {
  readonly fault: string;
  readonly program: keyof typeof PROGRAMS;
  readonly argv: readonly string[];
  readonly asNobody?: true;
  readonly status: number;
  /** The first line; the file is in it. */
  readonly says: RegExp;
}

describe('the errors of the programs', function () {
  this.timeout(30_000);
  const dir = tempDir();
  const at = (name: string): string => join(dir.path, name);
  const long = at('x'.repeat(120));

  before(() => {
    // The temporary directory itself may be entered by root only.
    chmodSync(dir.path, 0o755);
    mkdirSync(at('locked'), { mode: 0o700 });
    mkdirSync(join(long, 'etc/zones'), { recursive: true });
    writeFileSync(join(long, 'etc/zones/index'), '');
    writeFileSync(at('secret.json'), '{}', { mode: 0o600 });
    writeFileSync(at('bad.json'), '{');
    writeFileSync(at('wrong.json'), '{"limits":{"connections":0}}');
  });

  after(() => dir.remove());

  const rows: readonly Row[] = [
    {
      fault: 'a configuration that is not there',
      program: 'mdatad',
      argv: ['--check-config', '--config', at('none.json')],
      status: 96,
      says: /none\.json: cannot be read: no such file or directory \(ENOENT\)$/,
    },
    {
      fault: 'a configuration that may not be read',
      program: 'mdatad',
      argv: ['--check-config', '--config', at('secret.json')],
      asNobody: true,
      status: 96,
      says: /secret\.json: cannot be read: permission denied \(EACCES\)$/,
    },
    {
      fault: 'a configuration that is not JSON',
      program: 'mdatad',
      argv: ['--check-config', '--config', at('bad.json')],
      status: 96,
      says: /bad\.json: not JSON: /,
    },
    {
      fault: 'a configuration with a wrong member',
      program: 'mdatad',
      argv: ['--check-config', '--config', at('wrong.json')],
      status: 96,
      says: /wrong\.json: limits\.connections: a whole number from 1 to 4096 is needed$/,
    },
    {
      fault: 'a root without a node',
      program: 'mdatad',
      argv: ['--root', at('none')],
      status: 95,
      says: /cannot start: stat .*none\/etc\/zones\/index: no compute node is there .*\(ENOENT\)$/,
    },
    {
      fault: 'a root that may not be read',
      program: 'mdatad',
      argv: ['--root', at('locked')],
      asNobody: true,
      status: 100,
      says: /cannot start: stat .*locked\/etc\/zones\/index: permission denied \(EACCES\)$/,
    },
    {
      fault: 'a root whose sockets have too long a path',
      program: 'mdatad',
      argv: ['--root', long],
      status: 95,
      says: /cannot start: bind .*admin\.sock: \d+ bytes, at most 107 fit \(ENAMETOOLONG\)$/,
    },
    {
      fault: 'an agent that is not there',
      program: 'mdatactl',
      argv: ['status', '--root', at('none')],
      status: 4,
      says: /mdatad is not there: no socket at .*none\/var\/run\/mdatad\/admin\.sock$/,
    },
    {
      fault: 'an admin socket that may not be opened',
      program: 'mdatactl',
      argv: ['zones', '--root', at('locked')],
      asNobody: true,
      status: 2,
      says: /not permitted to open .*locked\/var\/run\/mdatad\/admin\.sock$/,
    },
    {
      fault: 'a configuration that is not there',
      program: 'mdatactl',
      argv: ['datasets', 'expand', '--config', at('none.json')],
      status: 3,
      says: /none\.json: cannot be read: no such file or directory \(ENOENT\)$/,
    },
    {
      fault: 'a file of VMs that is not there',
      program: 'simcn',
      argv: ['up', '--root', at('new'), '--vms', at('none.json')],
      status: 1,
      says: /open .*none\.json: no such file or directory \(ENOENT\)$/,
    },
    {
      fault: 'a file of VMs that is not JSON',
      program: 'simcn',
      argv: ['up', '--root', at('new'), '--vms', at('bad.json')],
      status: 1,
      says: /bad\.json: not JSON: /,
    },
    {
      fault: 'a root that may not be made',
      program: 'simcn',
      argv: ['up', '--root', at('locked/new')],
      asNobody: true,
      status: 1,
      says: /the root .*locked\/new cannot be used: permission denied \(EACCES\)$/,
    },
    {
      fault: 'a root that is too long',
      program: 'simcn',
      argv: ['up', '--root', join(long, 'new')],
      status: 1,
      says: /the root's path has \d+ bytes, and at most \d+ leave room .*new$/,
    },
    {
      fault: 'a node whose socket may not be opened',
      program: 'simcn',
      argv: ['ls', '--root', at('locked')],
      asNobody: true,
      status: 1,
      says: /cannot reach the node at .*simcn\.sock: permission denied \(EACCES\)$/,
    },
    {
      fault: 'a metadata socket that may not be opened',
      program: 'mdata-get',
      argv: ['--socket', at('locked/metadata.sock'), 'key'],
      asNobody: true,
      status: 2,
      says: /connect .*locked\/metadata\.sock: only root may read metadata \(EACCES\)$/,
    },
    {
      fault: 'a directory for the package that is not there',
      program: 'package',
      argv: ['--out', at('none')],
      status: 1,
      says: /open .*none\/mdatad-.*\.tgz: no such file or directory \(ENOENT\)$/,
    },
    {
      fault: 'a target that is another platform',
      program: 'package',
      argv: ['--target', 'plan9-mips'],
      status: 1,
      says: /--target plan9-mips: this checkout was built on .* and holds no native code for /,
    },
    {
      fault: 'a Node that is not there',
      program: 'package',
      argv: ['--node', at('none')],
      status: 1,
      says: /--node .*none: there is no .*none\/bin\/node$/,
    },
    {
      fault: 'a directory for the pages that cannot be made',
      program: 'man',
      argv: ['--out', at('bad.json')],
      status: 1,
      says: /mkdir .*bad\.json\/man\/man1: not a directory \(ENOTDIR\)$/,
    },
  ];

  it('mdatad gives somebody at a terminal no record of the log, and a log one', async () => {
    const command = [process.execPath, join(DIST, PROGRAMS.mdatad), '--root', at('none')];
    const seen = await runProgram(['script', '-qec', command.join(' '), '/dev/null']);
    assert.strictEqual(seen.status, 95);
    assert.match(
      seen.stdout,
      /^mdatad: cannot start: stat .*no compute node is there.*\r\n {2}\S.*\r\n$/,
    );
    const record = /^\{"name":"metadata",.*"remedy":"[^"]+",.*"msg":"cannot start",.*\}\n$/;
    const apart = await runProgram(command);
    assert.match(apart.stdout, record);
    assert.match(apart.stderr, /^mdatad: cannot start: .*\n {2}\S.*\n$/);
    const together = await runProgram(['sh', '-c', '"$@" 2>&1', 'sh', ...command]);
    assert.match(together.stdout, record);
  });

  for (const { fault, program, argv, asNobody, status, says } of rows) {
    it(`${program} names ${fault}, once, and what to do`, async function () {
      if (asNobody === true) {
        needsRoot(this);
      }
      const prefix = asNobody === true ? NOBODY : [];
      const command = [...prefix, process.execPath, join(DIST, PROGRAMS[program]), ...argv];
      const ended = await runProgram(command);
      assert.strictEqual(ended.status, status, ended.stderr);
      const [first = '', ...help] = ended.stderr.trimEnd().split('\n');
      assert.match(first, says);
      assert(first.startsWith(`${program}: `), first);
      const codes = first.match(/\bE[A-Z]{3,}\b/g) ?? [];
      assert.strictEqual(new Set(codes).size, codes.length, first);
      assert(!/^\s+at /m.test(ended.stderr), 'no stack');
      assert(help.length > 0 && help.every((line) => /^ {2}\S/.test(line)), ended.stderr);
    });
  }
});
