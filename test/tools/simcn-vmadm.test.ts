import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { eventually } from '../support/eventually';
import type { SimNode } from '../support/simcn';
import { GUEST, IMAGE, NIC, NONE, parse, type Vm, vmadmNode, ZONE } from '../support/vmadm-node';

describe('simcn: vmadm', function () {
  this.timeout(60_000);
  let node: SimNode;

  const { update, metadata } = vmadmNode((started) => (node = started));

  it('finds uuids, whole objects, chosen fields, and by filter', async () => {
    const lookup = async (...args: string[]) => (await node.vmadm(['lookup', ...args])).stdout;
    assert.strictEqual(await lookup(), `${ZONE}\n${GUEST}\n`);
    assert.strictEqual(await lookup('brand=bhyve'), `${GUEST}\n`);
    assert.strictEqual(await lookup('alias=~^web'), `${ZONE}\n`);
    assert.strictEqual(await lookup('alias=nothing'), '');
    assert.deepStrictEqual(JSON.parse(await lookup('-j', 'alias=nothing')), []);
    assert.strictEqual(
      await lookup('-j', '-o', 'alias,type,ram', `uuid=${ZONE}`),
      '[\n  {\n    "alias": "web0",\n    "type": "OS",\n    "ram": 512\n  }\n]\n',
    );
    assert.strictEqual(await lookup('-1', 'nics.*.ip=10.2.1.20', 'alias=~^WEB'), `${ZONE}\n`);
    assert.strictEqual(await lookup('nics.*.mac=90:B8:D0:f5:e4:f5', 'alias=vm0'), '');
    assert.strictEqual(await lookup('-p', '-H', 'customer_metadata.colour=blue'), `${ZONE}\n`);
    assert.deepStrictEqual(await node.vmadm(['lookup', '-1']), {
      status: 1,
      stdout: '',
      stderr: 'Requested unique lookup but found 2 results.\n',
    });
    const wrong = await node.vmadm(['lookup', '-o', 'alias']);
    assert.deepStrictEqual(wrong, {
      status: 1,
      stdout: '',
      stderr: 'Cannot specify -o without -j\n',
    });
    const key = await node.vmadm(['lookup', 'colour=blue']);
    assert.deepStrictEqual(key, {
      status: 1,
      stdout: '',
      stderr: 'Invalid lookup key: "colour"\n',
    });
  });

  it('shows one VM, with the type that only the command line adds', async () => {
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.strictEqual(shown.type, 'OS');
    assert.deepStrictEqual(shown.customer_metadata, { colour: 'blue', shape: 'round' });
  });

  it('fails with the messages and exit statuses of the platform', async () => {
    const outcome = async (argv: string[], stdin = '') => {
      const { status, stdout, stderr } = await node.vmadm(argv, stdin);
      assert.strictEqual(stdout, '');
      return [status, stderr.split('\n')[0]];
    };
    assert.deepStrictEqual(await outcome(['get', NONE]), [
      1,
      `zoneadm: ${NONE}: No such zone configured`,
    ]);
    assert.deepStrictEqual(await outcome(['update', NONE], '{}'), [1, `VM ${NONE} not found`]);
    const [status, words] = await outcome(['update', ZONE], '{');
    assert.strictEqual(status, 1);
    assert.match(String(words), /^Invalid JSON payload: /);
    for (const payload of [
      { set_customer_metadata: { k: { deep: 1 } } },
      { set_customer_metadata: { k: null } },
      { remove_customer_metadata: ['a,b'] },
      { remove_customer_metadata: 7 },
      { autoboot: 'perhaps', quota: -1 },
    ]) {
      assert.deepStrictEqual(await outcome(['update', ZONE], JSON.stringify(payload)), [
        1,
        `Invalid value(s) for: ${Object.keys(payload).join(',')}`,
      ]);
    }
    assert.strictEqual((await outcome(['get', 'nonsense']))[0], 2);
    assert.strictEqual((await outcome(['frobnicate', ZONE]))[0], 2);
  });

  it('updates the metadata maps: places kept, new names last, set before remove', async () => {
    const { status, stdout, stderr } = await update({
      remove_customer_metadata: ['shape', 'colour', 'absent'],
      set_customer_metadata: { size: 3, colour: 'red', empty: '', on: true },
      set_internal_metadata: { admin_pw: 'x' },
    });
    assert.deepStrictEqual([status, stdout, stderr], [0, '', `Successfully updated VM ${ZONE}\n`]);
    const expected = {
      customer_metadata: { size: 3, colour: 'red', empty: '', on: true },
      internal_metadata: { root_pw: 'secret', admin_pw: 'x' },
    };
    assert.deepStrictEqual(metadata(), expected);
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.deepStrictEqual(shown.customer_metadata, expected.customer_metadata);
  });

  it('loses the key __proto__ and ignores a plain customer_metadata, as the platform does', async () => {
    const before = metadata();
    const payload = '{"set_customer_metadata":{"__proto__":"x"},"customer_metadata":{"new":"y"}}';
    assert.strictEqual((await node.vmadm(['update', ZONE], payload)).status, 0);
    assert.deepStrictEqual(metadata(), before);
  });

  it('updates tags, routes, nics and plain properties', async () => {
    await update({
      alias: 'web1',
      resolvers: ['10.0.0.1'],
      set_tags: { role: 'db' },
      set_routes: { '10.9.0.0/16': 'nics[0]' },
      update_nics: [{ mac: '90:b8:d0:f5:e4:f5', ip: '10.2.1.21', gateway: '10.2.1.1' }],
    });
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.strictEqual(shown.alias, 'web1');
    assert.deepStrictEqual(shown.resolvers, ['10.0.0.1']);
    assert.deepStrictEqual(shown.tags, { role: 'db' });
    assert.deepStrictEqual(shown.routes, { '10.9.0.0/16': 'nics[0]' });
    assert.deepStrictEqual(shown.nics, [
      {
        ...NIC,
        ip: '10.2.1.21',
        ips: ['10.2.1.21/24'],
        gateway: '10.2.1.1',
        gateways: ['10.2.1.1'],
      },
    ]);
  });

  it('keeps a nic that a route goes through', async () => {
    const remove = await update({ remove_nics: [NIC.mac] });
    assert.deepStrictEqual(remove, {
      status: 1,
      stdout: '',
      stderr: 'Route gateway: "nics[0]" refers to non-existent or DHCP nic\n',
    });
    await update({ remove_routes: ['10.9.0.0/16'], remove_nics: [NIC.mac] });
    const removed = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.deepStrictEqual([removed.nics, removed.routes], [[], {}]);
    const add = { nic_tag: 'external', ip: '10.2.1.20', netmask: '255.255.255.0', mac: NIC.mac };
    assert.strictEqual(
      (await update({ add_nics: [add] })).stderr,
      `Successfully updated VM ${ZONE}\n`,
    );
    assert.deepStrictEqual(parse((await node.vmadm(['get', ZONE])).stdout).nics, [NIC]);
  });

  it('accepts numbers, lists and truth values as text, and removes what is given as empty', async () => {
    const get = async () => parse((await node.vmadm(['get', ZONE])).stdout);
    const { status } = await node.vmadm(
      ['update', ZONE, 'quota=25', 'resolvers=8.8.8.8,8.8.4.4', 'zfs_snapshot_limit=9'].concat(
        ...['maintain_resolvers=true', 'cpu_cap=150', 'alias=a=b', 'fs_allowed=ufs,pcfs'],
      ),
    );
    assert.strictEqual(status, 0);
    const set = await get();
    assert.deepStrictEqual(
      ['quota', 'resolvers', 'zfs_snapshot_limit', 'maintain_resolvers', 'cpu_cap', 'alias'].map(
        (name) => set[name],
      ),
      [25, ['8.8.8.8', '8.8.4.4'], 9, true, 150, 'a=b'],
    );
    assert.strictEqual(set.fs_allowed, 'ufs,pcfs');
    await update({
      zfs_snapshot_limit: '',
      cpu_cap: null,
      alias: '',
      maintain_resolvers: 'false',
      fs_allowed: '',
      remove_customer_metadata: 'colour,shape',
    });
    const unset = await get();
    for (const name of ['zfs_snapshot_limit', 'cpu_cap', 'alias', 'maintain_resolvers']) {
      assert(!(name in unset), name);
    }
    assert(!('fs_allowed' in unset));
    await update({ alias: 'web0', resolvers: ['10.0.0.1'] });
  });

  it('keeps limits at their distance when the memory changes', async () => {
    await update({ max_physical_memory: 512, max_swap: 1024, tmpfs: 256 });
    await update({ max_physical_memory: '1024' });
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.deepStrictEqual(
      [shown.max_physical_memory, shown.max_swap, shown.tmpfs, shown.max_locked_memory],
      [1024, 1536, 512, 1024],
    );
    await update({ max_physical_memory: 512, max_swap: 1024 });
  });

  it('drops a property that cannot be changed, with a warning', async () => {
    const { status, stderr } = await update({ brand: 'lx', notes: 'x' });
    assert.strictEqual(status, 0);
    const warning = (name: string) =>
      `Warning, invalid update property: [${name}] removing from payload.\n`;
    assert.strictEqual(
      stderr,
      `${warning('brand')}${warning('notes')}Successfully updated VM ${ZONE}\n`,
    );
  });

  it('lists with columns, an order, filters, with and without a header', async () => {
    const list = async (...args: string[]) => (await node.vmadm(['list', ...args])).stdout;
    const [head, ...rows] = (await list()).trimEnd().split('\n');
    assert.strictEqual(
      head,
      `${'UUID'.padEnd(36)}  TYPE  ${'RAM'.padEnd(7)}  ${'STATE'.padEnd(16)}  ALIAS`,
    );
    assert.deepStrictEqual(rows, [
      `${ZONE}  OS    512      running           web0`,
      `${GUEST}  BHYV  1024     running           vm0`,
    ]);
    assert.strictEqual(await list('-H', '-o', 'alias', '-s', '-alias'), 'web0\nvm0\n');
    assert.strictEqual(await list('-H', '-o', 'alias', '-s', 'alias'), 'vm0\nweb0\n');
    assert.strictEqual(
      await list('-p', '-o', 'alias,nics.0.ip,cpu_cap', '-s', 'alias', 'state=running'),
      'vm0::\nweb0:10.2.1.20:\n',
    );
    assert.strictEqual(
      await list('-H', '-o', 'cpu_cap,alias', 'alias=vm0', 'brand=bhyve'),
      '-        vm0\n',
    );
    for (const [args, words] of [
      [['-o', 'colour'], 'invalid order field: colour'],
      [['-s', 'colour'], 'invalid sort field: colour'],
      [['-o', 'nics.*.ip'], 'Invalid order key: "nics.*.ip"'],
      [['colour=blue'], 'Invalid filter key: "colour"'],
    ] as const) {
      const { status, stderr } = await node.vmadm(['list', ...args]);
      assert.deepStrictEqual([status, stderr], [1, `${words}\n`]);
    }
  });

  it('validates payloads without applying them', async () => {
    const validate = (payload: unknown, ...args: string[]) =>
      node.vmadm(['validate', ...args], JSON.stringify(payload));
    assert.deepStrictEqual(await validate({ brand: 'joyent', image_uuid: IMAGE }, 'create'), {
      status: 0,
      stdout: '',
      stderr: "VALID 'create' payload for joyent brand VMs.\n",
    });
    assert.deepStrictEqual(await validate({ alias: 'x' }, 'update', 'lx'), {
      status: 0,
      stdout: '',
      stderr: "VALID 'update' payload for lx brand VMs.\n",
    });
    const bad = await validate(
      { brand: 'joyent', colour: 'x', nics: [{ mtu: 7, size: 1 }] },
      'create',
    );
    assert.strictEqual(bad.status, 1);
    assert.deepStrictEqual(JSON.parse(bad.stderr), {
      bad_values: ['nics.*.mtu'],
      bad_properties: ['colour', 'nics.*.size'],
      missing_properties: ['image_uuid'],
    });
    const brand = await validate({ brand: 'solaris' }, 'create');
    assert.deepStrictEqual(JSON.parse(brand.stderr), { bad_brand: 'solaris' });
    assert.strictEqual((await validate({}, 'update')).status, 2);
    assert.strictEqual((await validate({})).status, 2);
  });

  it('rebuilds the whole file from what vminfod has: an unseen edit is lost', async () => {
    await node.ok(['fault', 'vminfod.freeze', '--zone', ZONE]);
    const { customer_metadata: customer, internal_metadata } = metadata();
    const edited = { customer_metadata: { ...(customer as Vm), mine: 'x' }, internal_metadata };
    writeFileSync(node.path(`/zones/${ZONE}/config/metadata.json`), JSON.stringify(edited));
    const frozen = update({ set_customer_metadata: { later: '1' } });
    await eventually(() => 'later' in (metadata().customer_metadata as Vm), 'the write');
    assert.ok(!('mine' in (metadata().customer_metadata as Vm)));
    // Written, and yet it waits: only when vminfod shows it does it end.
    await node.ok(['fault', '--clear']);
    assert.strictEqual((await frozen).status, 0);
  });

  it('waits for the lock of whoever has it', async () => {
    const started = Date.now();
    await node.ok(['fault', 'lock.held=800', '--zone', ZONE]);
    assert.strictEqual((await update({ set_customer_metadata: { locked: 'y' } })).status, 0);
    assert.ok(Date.now() - started >= 800);
  });

  it('fails, or hangs, where a test says so', async () => {
    await node.ok(['fault', 'vmadm.fail']);
    assert.strictEqual((await update({ alias: 'never' })).status, 1);
    await node.ok(['fault', '--clear']);
    await node.ok(['fault', 'vmadm.hang=500', '--zone', ZONE]);
    const started = Date.now();
    assert.strictEqual((await node.vmadm(['get', ZONE])).status, 0);
    assert.ok(Date.now() - started >= 500);
    await node.ok(['fault', '--clear']);
  });

  it('cannot write to a full disk, and leaves the old file whole', async () => {
    const before = metadata();
    await node.ok(['fault', 'disk.full', '--zone', ZONE]);
    const { status, stderr } = await update({ set_customer_metadata: { big: 'x'.repeat(5000) } });
    assert.strictEqual(status, 1);
    assert.match(stderr, process.geteuid?.() === 0 ? /ENOSPC/ : /EACCES/);
    assert.deepStrictEqual(metadata(), before);
    await node.ok(['fault', '--clear']);
    assert.strictEqual((await update({ set_customer_metadata: { big: 'x' } })).status, 0);
  });

  it('streams events, the VMs of the first line by name', async () => {
    const child = spawn(node.path('/usr/sbin/vmadm'), ['events', '-j', '-r', ZONE], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const next = async () => parse(String((await lines.next()).value));
      const ready = await next();
      assert.strictEqual(ready.type, 'ready');
      assert.deepStrictEqual(Object.keys(ready.vms as object), [ZONE, GUEST]);
      await update({ set_customer_metadata: { seen: 'z' } });
      const event = await next();
      assert.strictEqual(event.type, 'modify');
      assert.strictEqual(((event.vm as Vm).customer_metadata as Vm).seen, 'z');
    } finally {
      child.kill();
      await once(child, 'exit');
    }
  });
});
