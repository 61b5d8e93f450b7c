/*
 * The checks of `mdatactl preflight`, each with one thing broken on a simulated node: the check that is there for it
 * says so, names a remedy, and leaves nothing behind.
 */
import assert from 'node:assert';
import { chmodSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { PROBES, type PreflightCheck, type PreflightVerdict } from '../../tools/preflight/check';
import { CHECK_NAMES } from '../../tools/preflight/preflight';
import { whyNoFailingCalls } from '../support/failing-calls';
import { HangingFileSystems, whyNoHangingFs } from '../support/hanging-fs';
import { describeWhere } from '../support/pending';
import {
  HALTED_ZONE,
  LX_ZONE,
  HVM_ZONE,
  INDEX,
  lineOf,
  OS_ZONE,
  PreflightNode,
} from '../support/preflight-node';
import { whyNoNode } from '../support/simcn';

describeWhere(
  whyNoFailingCalls() ?? whyNoHangingFs() ?? whyNoNode(),
  'the checks of preflight',
  function () {
    this.timeout(120_000);
    let node: PreflightNode;

    before(async () => {
      node = await PreflightNode.start();
    });

    after(() => node.stop());

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
        return () => node.calls.clear();
      },
      prefix: () => node.calls.prefix,
    });

    const PRIVILEGES =
      'file_dac_read,file_dac_search,file_dac_write,file_chown,file_owner,proc_fork';
    const scratch = (probe: string, path: string): string => `/${probe}/${path}`;

    const rows: readonly Row[] = [
      {
        check: 'scratch',
        fault: 'its directory cannot be made',
        verdict: 'fail',
        seen: /cannot be made: EROFS/,
        ...failing(() => node.calls.fail('mkdir', 'EROFS', '.preflight.')),
      },
      {
        check: 'global-zone',
        fault: "the kernel's zones cannot be listed",
        verdict: 'fail',
        seen: /zone_list/,
        ...failing(() => node.calls.fail('open', 'EACCES', '/system/simcn/zones$')),
      },
      {
        check: 'privileges',
        fault: 'one is missing in the limit set',
        verdict: 'fail',
        seen: /^missing: sys_mount, proc_exec$/,
        make: () => {
          const sets = `"\\tE: ${PRIVILEGES},proc_exec,sys_mount\\n\\tL: ${PRIVILEGES}\\n"`;
          return node.command('ppriv', `printf ${sets}`);
        },
      },
      {
        check: 'addon',
        fault: 'its file is not there',
        verdict: 'fail',
        seen: /mdatad\.node/,
        ...failing(() => node.calls.fail('stat', 'ENOENT', '/mdatad.node$')),
      },
      {
        check: 'ffi',
        fault: 'its binding is not there',
        verdict: 'fail',
        seen: /ffi/,
        ...failing(() => node.calls.fail('stat', 'ENOENT', '/ffi_bindings.node$')),
      },
      {
        check: 'struct-sizes',
        fault: 'the index of zones cannot be read',
        verdict: 'fail',
        seen: /EIO/,
        ...failing(() => node.calls.fail('open', 'EIO', `${INDEX}$`)),
      },
      {
        check: 'zone-index',
        fault: 'a line is damaged',
        verdict: 'fail',
        seen: /cannot understand line \d+/,
        make: () => node.change(INDEX, (text) => `${text}broken\n`),
      },
      {
        check: 'zone-index',
        fault: 'a zone has no brand',
        verdict: 'warn',
        seen: /1 of 4 zones have no brand/,
        make: () =>
          node.change(
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
          node.change(
            INDEX,
            lineOf(OS_ZONE, ([, ...fields]) => [`${HALTED_ZONE}x`, ...fields]),
          ),
      },
      {
        check: 'kernel-zones',
        fault: 'a running zone has another brand in the index',
        verdict: 'fail',
        seen: new RegExp(`${LX_ZONE} is lx, joyent in the index`),
        make: () =>
          node.change(
            INDEX,
            lineOf(LX_ZONE, (f) => [...f.slice(0, 4), 'joyent', ...f.slice(5)]),
          ),
      },
      {
        check: 'libzonecfg',
        fault: "a zone's XML says another brand",
        verdict: 'fail',
        seen: new RegExp(`brand of ${HALTED_ZONE} is lx`),
        make: () => {
          return node.change(`/etc/zones/${HALTED_ZONE}.xml`, (text) => {
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
          return node.move(node.path(`/etc/zones/${HALTED_ZONE}.xml`));
        },
      },
      {
        check: 'zone-events',
        fault: 'no more may subscribe',
        verdict: 'fail',
        seen: /zonecfg_notify_bind/,
        ...failing(() => node.calls.fail('bind', 'EAGAIN')),
      },
      {
        check: 'socket',
        fault: 'a socket cannot be renamed',
        verdict: 'fail',
        seen: /EXDEV/,
        ...failing(() => node.calls.fail('rename', 'EXDEV', scratch('socket', 'metadata.sock$'))),
      },
      {
        check: 'peer-credential',
        fault: 'the peer of a connection cannot be found out',
        verdict: 'fail',
        seen: /getpeerucred/,
        ...failing(() => node.calls.fail('peer', 'EINVAL')),
      },
      {
        check: 'other-user',
        fault: 'the mode cannot be set',
        verdict: 'fail',
        seen: /EPERM/,
        ...failing(() => node.calls.fail('chmod', 'EPERM', scratch('other-user', 'closed/in$'))),
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
        ...failing(() => node.calls.fail('watch', 'ENOSPC')),
      },
      {
        check: 'directory-sync',
        fault: 'a directory cannot be synced',
        verdict: 'fail',
        seen: /fsync.*EINVAL/,
        ...failing(() => node.calls.fail('fsync', 'EINVAL', '/directory-sync$')),
      },
      {
        check: 'lock',
        fault: 'another holds the lock',
        verdict: 'fail',
        seen: /ETIMEDOUT/,
        ...failing(() => node.calls.fail('lock', 'EAGAIN', '.locklock$')),
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
        ...failing(() => node.calls.fail('write', 'ENOSPC', scratch('free-space', 'space'))),
      },
      {
        check: 'vminfod',
        fault: 'it is down',
        verdict: 'fail',
        seen: /GET \/ping.*(ECONNREFUSED|ENOENT)/,
        make: () => node.inject('vminfod.down'),
      },
      {
        check: 'vmadm',
        fault: 'it fails',
        verdict: 'fail',
        seen: /^lookup|vmadm/,
        make: () => node.inject('vmadm.fail'),
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
          return node.move(path, () => {
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
          return node.change(
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
          chmodSync(node.directory, 0o755);
          return () => chmodSync(node.directory, 0o700);
        },
      },
      {
        check: 'zone-directories',
        fault: 'a link is in the place of one',
        verdict: 'fail',
        seen: new RegExp(`${OS_ZONE} is not a directory`),
        make: () => node.move(node.directory, () => symlinkSync('/tmp', node.directory)),
      },
      {
        check: 'zone-directories',
        fault: 'one is missing though its zone runs',
        verdict: 'fail',
        seen: new RegExp(`${OS_ZONE} is not there`),
        make: () => node.move(node.directory),
      },
      {
        check: 'zone-mounts',
        fault: 'a zone does not have its directory',
        verdict: 'warn',
        seen: new RegExp(`${OS_ZONE}: not mounted`),
        make: () => {
          return node.change('/etc/mnttab', (text) => {
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
        make: () => node.change('/etc/mnttab', (text) => text.replaceAll('\tro,', '\trw,')),
      },
      {
        check: 'hvm-ports',
        fault: 'a port is a link',
        verdict: 'fail',
        seen: new RegExp(`${HVM_ZONE}: ELOOP`),
        make: () => node.move(node.port, () => symlinkSync('/tmp/other', node.port)),
      },
      {
        check: 'hvm-ports',
        fault: 'a port is missing',
        verdict: 'warn',
        seen: new RegExp(`${HVM_ZONE}: ENOENT`),
        make: () => node.move(node.port),
      },
      {
        check: 'hvm-ports',
        fault: "a zone's root does not answer",
        verdict: 'warn',
        seen: new RegExp(`${HVM_ZONE}: no answer`),
        make: async () => {
          const hanging = new HangingFileSystems();
          await hanging.mountOn(dirname(node.port));
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
          return node.command(
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
        make: () =>
          node.command('svcs', `case "$*" in *-D*) ;; *) echo 'maintenance svc:/x' ;; esac`),
      },
    ];

    for (const { check, fault, verdict, seen, make, prefix } of rows) {
      it(`${check}: reports that ${fault}`, async () => {
        const undo: unknown = await make();
        let found: PreflightCheck | undefined;
        try {
          found = (await node.report(prefix?.(), check)).checks.find(({ name }) => name === check);
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
  },
);
