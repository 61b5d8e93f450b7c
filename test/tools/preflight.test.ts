/*
 * `mdatactl preflight` on a simulated node: well where all is well, and, with one thing broken at a time, the
 * check that is there for it says so. Each check has its rows.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { CHECK_NAMES, preflight } from '../../tools/preflight/preflight';
import {
  PROBES,
  type PreflightCheck,
  type PreflightReport,
  type PreflightVerdict,
} from '../../tools/preflight/check';
import { otherUserFinding } from '../../tools/preflight/socket-probes';
import { flockFault } from '../../tools/preflight/zone-probes';
import { FLOCK, wholeFile } from '../../src/platform/abi';
import { eventually } from '../support/eventually';
import { FailingCalls, whyNoFailingCalls } from '../support/failing-calls';
import { HangingFileSystems, whyNoHangingFs } from '../support/hanging-fs';
import { describeWhere } from '../support/pending';
import { runProgram, SimNode, whyNoNode, type Result } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
const OS_ZONE = zonenameOf(1);
const HVM_ZONE = zonenameOf(2);
const HALTED_ZONE = zonenameOf(3);
const VMS = [
  vmObject(OS_ZONE),
  vmObject(HVM_ZONE, { brand: 'bhyve' }),
  vmObject(HALTED_ZONE, { zone_state: 'installed', state: 'stopped' }),
];

describeWhere(
  whyNoFailingCalls() ?? whyNoHangingFs() ?? whyNoNode(),
  'mdatactl preflight',
  function () {
    this.timeout(120_000);
    let node: SimNode;
    let calls: FailingCalls;

    before(async () => {
      calls = new FailingCalls();
      node = await SimNode.start({ vms: VMS });
      chmodSync(node.path(`/var/zonecontrol/${OS_ZONE}`), 0o700);
      for (const { zonename, brand } of VMS) {
        // A node of today has seven fields in its index.
        changed(
          INDEX,
          lineOf(String(zonename), (fields) => {
            return fields.length > 4 ? fields : [...fields, String(brand), 'excl', ''];
          }),
        );
      }
      await eventually(() => existsSync(port()), 'the port');
    });

    after(async () => {
      await node.stop();
      calls.remove();
    });

    function port(): string {
      return node.path(`/zones/${HVM_ZONE}/root/tmp/vm.ttyb`);
    }

    function argvOf(flags: readonly string[]): string[] {
      return [process.execPath, MDATACTL, 'preflight', '--root', node.root, ...flags];
    }

    function run(prefix: readonly string[] = [], flags: readonly string[] = []): Promise<Result> {
      return runProgram([...prefix, ...argvOf(flags)], '', true);
    }

    async function report(prefix: readonly string[] = [], check = ''): Promise<PreflightReport> {
      const only = check === '' ? [] : ['--check', check];
      const { stdout, stderr } = await run(prefix, ['--json', ...only]);
      assert(stdout.startsWith('{'), stderr);
      return JSON.parse(stdout) as PreflightReport;
    }

    /** All that a run could leave behind, and what it must not touch. */
    function traces(): unknown {
      const zonecontrol = node.path('/var/zonecontrol');
      return {
        zonecontrol: readdirSync(zonecontrol).map((name) => {
          const { mode, uid, ino } = lstatSync(join(zonecontrol, name));
          return [name, mode, uid, ino];
        }),
        run: readdirSync(node.path('/var/run')),
        index: readFileSync(node.path('/etc/zones/index'), 'utf8'),
        mnttab: readFileSync(node.path('/etc/mnttab'), 'utf8'),
        mounts: node.mounts(),
      };
    }

    it('finds nothing wrong on a node that is well, and leaves no trace', async () => {
      const before = traces();
      const { checks, elapsed_ms } = await report();
      assert.deepStrictEqual(
        checks.map(({ name }) => name),
        CHECK_NAMES,
      );
      assert.deepStrictEqual(
        checks
          .filter(({ verdict }) => verdict !== 'ok')
          .map(({ name, seen }) => `${name}: ${seen}`),
        [],
      );
      assert(checks.every(({ expected, seen }) => expected !== '' && seen !== ''));
      assert(elapsed_ms < 30_000);
      assert.deepStrictEqual(traces(), before);
    });

    it('shows a person one line a check within 80 columns, and exits with 0', async () => {
      const { status, stdout, stderr } = await run(['env', 'COLUMNS=80']);
      assert.deepStrictEqual([status, stderr], [0, '']);
      const lines = stdout.trimEnd().split('\n');
      assert.strictEqual(lines.length, CHECK_NAMES.length + 2);
      assert.deepStrictEqual(
        lines.filter((line) => line.length > 80),
        [],
      );
      assert.match(lines.at(-1) ?? '', /^all is well; \d+ checks in \d+\.\d s$/);
    });

    interface Row {
      readonly check: string;
      readonly fault: string;
      readonly verdict: PreflightVerdict;
      readonly seen: RegExp;
      /** Breaks it; what it returns mends it. */
      readonly make: () => unknown;
      readonly prefix?: () => readonly string[];
    }

    const failing = (make: () => unknown): Pick<Row, 'make' | 'prefix'> => ({
      make: () => {
        make();
        return () => calls.clear();
      },
      prefix: () => calls.prefix,
    });

    function replaced(path: string, text: string): () => void {
      const at = node.path(path);
      const before = existsSync(at) ? readFileSync(at, 'utf8') : null;
      writeFileSync(`${at}.new`, text);
      renameSync(`${at}.new`, at);
      return () => {
        if (before === null) {
          rmSync(at);
        } else {
          writeFileSync(`${at}.new`, before);
          renameSync(`${at}.new`, at);
        }
      };
    }

    function changed(path: string, change: (text: string) => string): () => void {
      return replaced(path, change(readFileSync(node.path(path), 'utf8')));
    }

    /** The agent knows a command where it is there. */
    function command(name: string, body: string): () => void {
      mkdirSync(node.path('/usr/bin'), { recursive: true });
      const undo = replaced(`/usr/bin/${name}`, `#!/bin/sh\n${body}\n`);
      chmodSync(node.path(`/usr/bin/${name}`), 0o755);
      return undo;
    }

    function moved(path: string, put: () => void): () => void {
      renameSync(path, `${path}.away`);
      put();
      return () => {
        rmSync(path, { recursive: true, force: true });
        renameSync(`${path}.away`, path);
      };
    }

    async function faulted(...flags: readonly string[]): Promise<() => Promise<unknown>> {
      await node.ok(['fault', ...flags]);
      return () => node.ok(['fault', '--clear']);
    }

    const lineOf = (zonename: string, change: (fields: string[]) => string[]) => {
      return (text: string): string => {
        const lines = text.split('\n').map((line) => {
          return line.startsWith(`${zonename}:`) ? change(line.split(':')).join(':') : line;
        });
        return lines.join('\n');
      };
    };

    const INDEX = '/etc/zones/index';
    const PRIVILEGES =
      'file_dac_read,file_dac_search,file_dac_write,file_chown,file_owner,proc_fork';
    const directory = (): string => node.path(`/var/zonecontrol/${OS_ZONE}`);
    const scratch = (probe: string, path: string): string => `/${probe}/${path}`;

    const rows: readonly Row[] = [
      {
        check: 'scratch',
        fault: 'its directory cannot be made',
        verdict: 'fail',
        seen: /cannot be made: EROFS/,
        ...failing(() => calls.fail('mkdir', 'EROFS', '.preflight.')),
      },
      {
        check: 'global-zone',
        fault: "the kernel's zones cannot be listed",
        verdict: 'fail',
        seen: /zone_list/,
        ...failing(() => calls.fail('open', 'EACCES', '/system/simcn/zones$')),
      },
      {
        check: 'privileges',
        fault: 'one is missing in the limit set',
        verdict: 'fail',
        seen: /^missing: sys_mount, proc_exec$/,
        make: () => {
          const sets = `"\\tE: ${PRIVILEGES},proc_exec,sys_mount\\n\\tL: ${PRIVILEGES}\\n"`;
          return command('ppriv', `printf ${sets}`);
        },
      },
      {
        check: 'addon',
        fault: 'its file is not there',
        verdict: 'fail',
        seen: /mdatad\.node/,
        ...failing(() => calls.fail('stat', 'ENOENT', '/mdatad.node$')),
      },
      {
        check: 'ffi',
        fault: 'its binding is not there',
        verdict: 'fail',
        seen: /ffi/,
        ...failing(() => calls.fail('stat', 'ENOENT', '/ffi_bindings.node$')),
      },
      {
        check: 'struct-sizes',
        fault: 'the scratch lock cannot be had',
        verdict: 'fail',
        seen: /ENOLCK/,
        ...failing(() => calls.fail('lock', 'ENOLCK', 'struct-sizes$')),
      },
      {
        check: 'zone-index',
        fault: 'a line is damaged',
        verdict: 'fail',
        seen: /cannot understand line \d+/,
        make: () => changed(INDEX, (text) => `${text}broken\n`),
      },
      {
        check: 'zone-index',
        fault: 'a zone has no brand',
        verdict: 'warn',
        seen: /1 of 3 zones have no brand/,
        make: () =>
          changed(
            INDEX,
            lineOf(OS_ZONE, (fields) => fields.slice(0, 4)),
          ),
      },
      {
        check: 'kernel-zones',
        fault: 'a running zone is not in the index',
        verdict: 'fail',
        seen: new RegExp(`${OS_ZONE} is not in the index`),
        make: () =>
          changed(
            INDEX,
            lineOf(OS_ZONE, ([, ...fields]) => [`${HALTED_ZONE}x`, ...fields]),
          ),
      },
      {
        check: 'kernel-zones',
        fault: 'a running zone has another brand in the index',
        verdict: 'fail',
        seen: new RegExp(`${OS_ZONE} is joyent-minimal, lx in the index`),
        make: () =>
          changed(
            INDEX,
            lineOf(OS_ZONE, (f) => [...f.slice(0, 4), 'lx', ...f.slice(5)]),
          ),
      },
      {
        check: 'libzonecfg',
        fault: "a zone's XML says another brand",
        verdict: 'fail',
        seen: new RegExp(`brand of ${HALTED_ZONE} is lx`),
        make: () => {
          return changed(`/etc/zones/${HALTED_ZONE}.xml`, (text) => {
            return text.replace('brand="joyent-minimal"', 'brand="lx"');
          });
        },
      },
      {
        check: 'libzonecfg',
        fault: "a zone's XML is not there",
        verdict: 'fail',
        seen: /zone_get_brand/,
        make: () => {
          return moved(node.path(`/etc/zones/${HALTED_ZONE}.xml`), () => undefined);
        },
      },
      {
        check: 'zone-events',
        fault: 'no more may subscribe',
        verdict: 'fail',
        seen: /zonecfg_notify_bind/,
        ...failing(() => calls.fail('bind', 'EAGAIN')),
      },
      {
        check: 'socket',
        fault: 'a socket cannot be renamed',
        verdict: 'fail',
        seen: /EXDEV/,
        ...failing(() => calls.fail('rename', 'EXDEV', scratch('socket', 'metadata.sock$'))),
      },
      {
        check: 'peer-credential',
        fault: 'the peer of a connection cannot be found out',
        verdict: 'fail',
        seen: /getpeerucred/,
        ...failing(() => calls.fail('peer', 'EINVAL')),
      },
      {
        check: 'other-user',
        fault: 'the mode cannot be set',
        verdict: 'fail',
        seen: /EPERM/,
        ...failing(() => calls.fail('chmod', 'EPERM', scratch('other-user', 'closed/in$'))),
      },
      {
        check: 'lofs',
        fault: 'mounts are refused',
        verdict: 'fail',
        seen: /mount.*EPERM/,
        make: () => () => undefined,
        prefix: () => ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'],
      },
      {
        check: 'watch',
        fault: 'nothing can be watched',
        verdict: 'fail',
        seen: /ENOSPC/,
        ...failing(() => calls.fail('watch', 'ENOSPC')),
      },
      {
        check: 'directory-sync',
        fault: 'a directory cannot be synced',
        verdict: 'fail',
        seen: /fsync.*EINVAL/,
        ...failing(() => calls.fail('fsync', 'EINVAL', '/directory-sync$')),
      },
      {
        check: 'lock',
        fault: 'another holds the lock',
        verdict: 'fail',
        seen: /ETIMEDOUT/,
        ...failing(() => calls.fail('lock', 'EAGAIN', '.locklock$')),
      },
      {
        check: 'thread-pool',
        fault: 'the environment makes it small',
        verdict: 'warn',
        seen: /fewer than 24/,
        make: () => undefined,
        prefix: () => ['env', 'UV_THREADPOOL_SIZE=4'],
      },
      {
        check: 'free-space',
        fault: 'the disk is full',
        verdict: 'fail',
        seen: /1 MiB below \/var\/zonecontrol: ENOSPC/,
        ...failing(() => calls.fail('write', 'ENOSPC', scratch('free-space', 'space'))),
      },
      {
        check: 'vminfod',
        fault: 'it is down',
        verdict: 'fail',
        seen: /GET \/ping.*(ECONNREFUSED|ENOENT)/,
        make: () => faulted('vminfod.down'),
      },
      {
        check: 'vmadm',
        fault: 'it fails',
        verdict: 'fail',
        seen: /^lookup|vmadm/,
        make: () => faulted('vmadm.fail'),
      },
      {
        check: 'vmadm',
        fault: 'it reports another state than vminfod',
        verdict: 'fail',
        seen: new RegExp(`not as vminfod reports: ${OS_ZONE} is joyent-minimal down in vmadm`),
        make: () => {
          const vms = [
            [OS_ZONE, 'joyent-minimal', 'down'],
            [HVM_ZONE, 'bhyve', 'running'],
          ];
          const more = [HALTED_ZONE, 'joyent-minimal', 'installed'];
          const vmsNow = [...vms, more].map(([uuid, brand, zone_state]) => {
            return { uuid, zonename: uuid, brand, zone_state };
          });
          const path = node.path('/usr/sbin/vmadm');
          return moved(path, () => {
            writeFileSync(path, `#!/bin/sh\necho '${JSON.stringify(vmsNow)}'\n`, { mode: 0o755 });
          });
        },
      },
      {
        check: 'zone-brands',
        fault: 'a brand is unknown',
        verdict: 'warn',
        seen: /unknown: illumos/,
        make: () => {
          return changed(
            INDEX,
            lineOf(HALTED_ZONE, (f) => [...f.slice(0, 4), 'illumos', ...f.slice(5)]),
          );
        },
      },
      {
        check: 'zone-directories',
        fault: 'others may enter one',
        verdict: 'warn',
        seen: new RegExp(`other users may enter 1: ${OS_ZONE} 0755`),
        make: () => {
          chmodSync(directory(), 0o755);
          return () => chmodSync(directory(), 0o700);
        },
      },
      {
        check: 'zone-directories',
        fault: 'a link is in the place of one',
        verdict: 'fail',
        seen: new RegExp(`${OS_ZONE} is not a directory`),
        make: () => moved(directory(), () => symlinkSync('/tmp', directory())),
      },
      {
        check: 'zone-directories',
        fault: 'one is missing though its zone runs',
        verdict: 'fail',
        seen: new RegExp(`${OS_ZONE} is not there`),
        make: () => moved(directory(), () => undefined),
      },
      {
        check: 'zone-mounts',
        fault: 'a zone does not have its directory',
        verdict: 'warn',
        seen: new RegExp(`${OS_ZONE}: not mounted`),
        make: () => {
          return changed('/etc/mnttab', (text) => {
            return text
              .split('\n')
              .filter((line) => !line.includes(OS_ZONE))
              .join('\n');
          });
        },
      },
      {
        check: 'zone-mounts',
        fault: 'a zone may write',
        verdict: 'warn',
        seen: new RegExp(`${OS_ZONE}: without ro`),
        make: () => changed('/etc/mnttab', (text) => text.replaceAll('\tro,', '\trw,')),
      },
      {
        check: 'hvm-ports',
        fault: 'a port is a link',
        verdict: 'fail',
        seen: new RegExp(`${HVM_ZONE}: ELOOP`),
        make: () => moved(port(), () => symlinkSync('/tmp/other', port())),
      },
      {
        check: 'hvm-ports',
        fault: 'a port is missing',
        verdict: 'warn',
        seen: new RegExp(`${HVM_ZONE}: ENOENT`),
        make: () => moved(port(), () => undefined),
      },
      {
        check: 'hvm-ports',
        fault: "a zone's root does not answer",
        verdict: 'warn',
        seen: new RegExp(`${HVM_ZONE}: no answer`),
        make: async () => {
          const hanging = new HangingFileSystems();
          await hanging.mountOn(dirname(port()));
          return () => hanging.remove();
        },
      },
      {
        check: 'smf',
        fault: 'another service needs the agent that is there',
        verdict: 'warn',
        seen: /agent is online; svc:\/site\/report:default would wait for it in vain/,
        make: () => {
          const all = 'online svc:/system/zones:default\\nonline svc:/site/report:default\\n';
          const one = 'online svc:/system/smartdc/metadata:default\\n';
          return command(
            'svcs',
            `case "$*" in *-D*) printf '${all}' ;; *) printf '${one}' ;; esac`,
          );
        },
      },
      {
        check: 'smf',
        fault: 'the agent that is there is in maintenance',
        verdict: 'warn',
        seen: /agent is maintenance: nothing serves now/,
        make: () => command('svcs', `case "$*" in *-D*) ;; *) echo 'maintenance svc:/x' ;; esac`),
      },
    ];

    for (const { check, fault, verdict, seen, make, prefix } of rows) {
      it(`${check}: says so where ${fault}`, async () => {
        const undo: unknown = await make();
        let found: PreflightCheck | undefined;
        try {
          found = (await report(prefix?.(), check)).checks.find(({ name }) => name === check);
        } finally {
          if (typeof undo === 'function') {
            await (undo as () => unknown)();
          }
        }
        assert.strictEqual(found?.verdict, verdict, JSON.stringify(found));
        assert.match(found.seen, seen);
        assert(found.remedy !== '' && !found.remedy.includes('\n'));
        const left = readdirSync(node.path('/var/zonecontrol')).filter((n) => n.startsWith('.pre'));
        assert.deepStrictEqual(left, []);
      });
    }

    it('has a row here for every check', () => {
      const covered = new Set([...rows.map(({ check }) => check), 'uid', 'node']);
      assert.deepStrictEqual(
        CHECK_NAMES.filter((name) => !covered.has(name)),
        [],
      );
      assert.deepStrictEqual(
        PROBES.filter((name) => !CHECK_NAMES.includes(name)),
        [],
      );
    });

    it('exits with 1 for warnings and shows what was expected and what to do', async () => {
      chmodSync(directory(), 0o755);
      const { status, stdout } = await run();
      chmodSync(directory(), 0o700);
      assert.strictEqual(status, 1);
      assert.match(stdout, /^WARN +zone-directories +other users may enter/m);
      assert.match(stdout, /^ +expected: a directory 0700 root for every OS zone$/m);
      assert.match(stdout, /^ +-> .*chmod 700 \/var\/zonecontrol\/\*$/m);
      assert.match(stdout, /^1 warning, nothing failed; /m);
    });

    it('exits with 2 for a user who is not root, and names that', async () => {
      const prefix = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--'];
      const { status, stdout } = await run(prefix);
      assert.strictEqual(status, 2);
      assert.match(stdout, /FAIL +(root|scratch)/);
    });

    it('wants a 64-bit Node of a version that is supported, and root', async () => {
      for (const [facts, name] of [
        [{ arch: 'ia32', version: '20.1.0', uid: 0 }, 'node'],
        [{ arch: 'x64', version: '18.20.0', uid: 0 }, 'node'],
        [{ arch: 'x64', version: '24.0.0', uid: 101 }, 'uid'],
      ] as const) {
        const stop = new AbortController();
        const { checks } = await preflight({ root: node.root, facts, signal: stop.signal });
        const bad = checks.filter(({ verdict }) => verdict !== 'ok').map((each) => each.name);
        assert.deepStrictEqual(bad, [name]);
      }
    });

    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      it(`puts everything back when it is ended by ${signal} in the middle of a mount`, async () => {
        const before = traces();
        // The mount is there, and what comes next takes long.
        calls.delay('connect', 60_000, '/root/at/metadata.sock');
        const [program = '', ...argv] = [...calls.prefix, ...argvOf(['--json', '--check', 'lofs'])];
        const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
        const out: Buffer[] = [];
        child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
        await eventually(() => node.mounts().some((path) => path.includes('.preflight.')), 'mount');
        child.kill(signal);
        const [status] = (await once(child, 'close')) as [number];
        calls.clear();
        assert.strictEqual(status, 2);
        const { checks } = JSON.parse(Buffer.concat(out).toString()) as PreflightReport;
        assert(checks.some(({ name, verdict }) => name === 'lofs' && verdict === 'fail'));
        assert.deepStrictEqual(traces(), before);
      });
    }

    it('removes what a run that was killed left behind', async () => {
      const before = traces();
      calls.delay('connect', 60_000, '/root/at/metadata.sock');
      const [program = '', ...argv] = [...calls.prefix, ...argvOf(['--json', '--check', 'lofs'])];
      const child = spawn(program, argv, { stdio: 'ignore' });
      await eventually(() => node.mounts().some((path) => path.includes('.preflight.')), 'mount');
      child.kill('SIGKILL');
      await once(child, 'close');
      calls.clear();
      assert(node.mounts().some((path) => path.includes('.preflight.')));
      const { checks } = await report([], 'scratch');
      assert.deepStrictEqual(
        checks.map(({ verdict }) => verdict),
        ['ok'],
      );
      assert.deepStrictEqual(traces(), before);
    });

    it('says that something stays where it cannot be unmounted, and removes it the next time', async () => {
      const before = traces();
      calls.delay('connect', 60_000, '/root/at/metadata.sock');
      const [program = '', ...argv] = [...calls.prefix, ...argvOf(['--json', '--check', 'lofs'])];
      const child = spawn(program, argv, { stdio: 'ignore' });
      await eventually(() => node.mounts().some((path) => path.includes('.preflight.')), 'mount');
      child.kill('SIGKILL');
      await once(child, 'close');
      // The probe that it started waits on, so that the mount stays.
      calls.fail('umount', 'EBUSY', '/root/at$');
      const { checks } = await report(calls.prefix, 'node');
      calls.clear();
      const failed = checks.filter(({ verdict }) => verdict === 'fail').map(({ name }) => name);
      assert.deepStrictEqual(failed, ['scratch']);
      await report([], 'node');
      assert.deepStrictEqual(traces(), before);
    });

    it('names a vminfod that sends garbage', async () => {
      const path = node.path('/garbage.sock');
      const server = createServer((request, response) => {
        response.end(
          request.url === '/ping' ? '{"ping":"pong"}' : '{"type":"ready","vms":"[{x}]"}\n',
        );
      });
      server.listen(path);
      await once(server, 'listening');
      const flags = ['--json', '--vminfod', `unix:${path}`, '--check', 'vminfod'];
      const { status, stdout } = await run([], flags);
      server.close();
      assert.strictEqual(status, 2);
      assert.match(stdout, /"seen": "a VM of the ready line is not JSON"/);
    });

    it('says so where vmadm does not answer in time', async () => {
      await node.ok(['fault', 'vmadm.hang=60000']);
      const { checks } = await report([], 'vmadm');
      await node.ok(['fault', '--clear']);
      assert.match(checks[0]?.seen ?? '', /vmadm lookup gave no answer within 8 s/);
    });

    it('makes the checks that need no scratch directory where there is none', async () => {
      calls.fail('mkdir', 'EROFS', '.preflight.');
      const { checks } = await report(calls.prefix);
      calls.clear();
      const well = checks.filter(({ verdict }) => verdict === 'ok').map(({ name }) => name);
      for (const name of ['addon', 'ffi', 'libzonecfg', 'zone-events', 'vminfod', 'vmadm']) {
        assert(well.includes(name), name);
      }
      for (const name of ['scratch', 'socket', 'lofs']) {
        assert(!well.includes(name), name);
      }
    });

    it('is over in time where every child hangs, and names each of them', async () => {
      calls.delay('open', 120_000, 'file-probes.js$');
      const { checks, elapsed_ms } = await report(calls.prefix);
      calls.clear();
      const hung = checks.filter(({ name, verdict }) => {
        return verdict === 'fail' && PROBES.some((probe) => probe === name);
      });
      assert.deepStrictEqual(
        hung.map(({ name }) => name),
        CHECK_NAMES.filter((name) => {
          return PROBES.some((probe) => probe === name) && name !== 'addon' && name !== 'ffi';
        }),
      );
      assert(elapsed_ms < 30_000, `${elapsed_ms} ms`);
    });
  },
);

describe('what the probes of preflight conclude', () => {
  const record = (pid: number): Buffer => {
    const bytes = wholeFile(FLOCK.F_WRLCK);
    bytes.writeInt32LE(pid, process.platform === 'sunos' ? 28 : 24);
    return bytes;
  };

  it('is that struct flock is as compiled in, where the kernel wrote the holder where it should', () => {
    assert.strictEqual(flockFault(record(4711), true, 4711), null);
    assert.match(flockFault(record(4711), true, 4712) ?? '', /l_pid reads 4711/);
    assert.match(flockFault(record(4711), false, 4711) ?? '', /more than \d+ bytes/);
    assert.match(flockFault(Buffer.alloc(FLOCK.bytes, 1), true, 4711) ?? '', /elsewhere/);
  });

  it('is that another user is kept out by the directory alone, whatever a socket does', () => {
    const peer = { zoneid: 0, pid: 1, uid: 60001 };
    assert.strictEqual(otherUserFinding('EACCES', 'connected', peer).verdict, 'ok');
    assert.strictEqual(otherUserFinding('EACCES', 'EACCES', peer).verdict, 'ok');
    assert.match(otherUserFinding('connected', 'connected', peer).seen, /got through/);
    const wrong = otherUserFinding('EACCES', 'connected', { ...peer, uid: 0 });
    assert.match(wrong.seen, /reported as 0/);
  });
});
