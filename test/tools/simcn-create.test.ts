/*
 * What `simcn create` and `vmadm create` make of payloads as people and Triton write them. The expected
 * values are the defaults that the platform's own test lists (smartos-live src/vm/tests/test-defaults.js).
 */
import assert from 'node:assert';

import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const IMAGE = 'c193a558-1d63-11e9-97cf-97bb3ee5c14f';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

type Vm = Readonly<Record<string, unknown>>;

describe('simcn: create', function () {
  this.timeout(60_000);
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: [], canaries: false });
  });
  after(async () => {
    await (node as SimNode | undefined)?.stop();
  });

  const get = async (uuid: string) => JSON.parse((await node.vmadm(['get', uuid])).stdout) as Vm;
  /** Makes one through vmadm, and gives it back without it being there any more. */
  async function made(payload: object): Promise<Vm> {
    const { status, stderr } = await node.vmadm(['create'], JSON.stringify(payload));
    assert.strictEqual(status, 0, stderr);
    const uuid = /Successfully created VM (.*)\n$/.exec(stderr)?.[1] ?? '';
    assert.match(uuid, UUID);
    const vm = await get(uuid);
    await node.ok(['destroy', uuid]);
    return vm;
  }
  async function refused(payload: object): Promise<string> {
    const { status, stdout, stderr } = await node.vmadm(['create'], JSON.stringify(payload));
    assert.deepStrictEqual([status, stdout], [1, ''], stderr);
    return stderr.trimEnd();
  }
  const pick = (vm: Vm, expected: object) =>
    Object.fromEntries(Object.keys(expected).map((name) => [name, vm[name]]));

  it('fills in what the platform fills in', async () => {
    const expected = {
      autoboot: true,
      billing_id: '00000000-0000-0000-0000-000000000000',
      brand: 'joyent',
      cpu_shares: 100,
      customer_metadata: {},
      dns_domain: 'local',
      firewall_enabled: false,
      hvm: false,
      image_uuid: IMAGE,
      init_restarts: 0,
      internal_metadata: {},
      limit_priv: 'default',
      max_locked_memory: 256,
      max_lwps: 2000,
      max_msg_ids: 4096,
      max_physical_memory: 256,
      max_sem_ids: 4096,
      max_shm_ids: 4096,
      max_shm_memory: 256,
      max_swap: 256,
      nics: [],
      owner_uuid: '00000000-0000-0000-0000-000000000000',
      quota: 10,
      resolvers: [],
      routes: {},
      snapshots: [],
      state: 'running',
      tags: {},
      tmpfs: 256,
      v: 1,
      zfs_io_priority: 100,
      zfs_root_recsize: 131072,
      zpool: 'zones',
    };
    const vm = await made({ image_uuid: IMAGE });
    assert.deepStrictEqual(pick(vm, expected), expected);
    assert.strictEqual(vm.zonename, vm.uuid);
    assert.strictEqual(vm.zonepath, `/zones/${String(vm.uuid)}`);
    for (const name of ['vcpus', 'docker', 'restart_init', 'maintain_resolvers', 'datasets']) {
      assert(!(name in vm), name);
    }
  });

  it('gives an HVM guest the memory of its hypervisor, and no property of a zone', async () => {
    const kvm = {
      brand: 'kvm',
      hvm: true,
      ram: 256,
      max_physical_memory: 1280,
      vcpus: 1,
      quota: 10,
    };
    const vm = await made({ brand: 'kvm' });
    assert.deepStrictEqual(pick(vm, kvm), kvm);
    assert.strictEqual(
      vm.limit_priv,
      'default,-file_link_any,-net_access,-proc_fork,-proc_info,-proc_session',
    );
    assert(!('tmpfs' in vm) && !('dns_domain' in vm));
    const bhyve = await made({
      brand: 'bhyve',
      ram: '2048',
      disks: [{ size: 1024, model: 'virtio' }],
    });
    assert.deepStrictEqual(
      [bhyve.ram, bhyve.max_physical_memory, bhyve.com2, bhyve.quota],
      [2048, 3328, 'socket,/tmp/vm.ttyb', 1],
    );
    const [disk] = bhyve.disks as Vm[];
    assert.strictEqual(disk?.path, `/dev/zvol/rdsk/zones/${String(bhyve.uuid)}/disk0`);
  });

  it('names interfaces, makes MACs, and gives addresses in both forms', async () => {
    const { nics } = await made({
      image_uuid: IMAGE,
      nics: [
        { nic_tag: 'external', ips: ['10.0.0.5/26', 'fd00::5/64'], gateways: ['10.0.0.1'] },
        {
          nic_tag: 'internal',
          ip: '10.1.0.5',
          netmask: '255.255.0.0',
          gateway: '10.1.0.1',
          mac: 'A:b:C:1:2:3',
          primary: 'true',
          vlan_id: '7',
        },
        { nic_tag: 'external', ip: 'dhcp' },
      ],
    });
    const [first, second, third] = nics as [Vm, Vm, Vm];
    assert.match(String(first.mac), /^[0-9a-f]2(:[0-9a-f]{2}){5}$/);
    assert.deepStrictEqual(
      { ...first, mac: null },
      {
        interface: 'net0',
        mac: null,
        nic_tag: 'external',
        gateway: '10.0.0.1',
        gateways: ['10.0.0.1'],
        netmask: '255.255.255.192',
        ip: '10.0.0.5',
        ips: ['10.0.0.5/26', 'fd00::5/64'],
      },
    );
    assert.deepStrictEqual(second, {
      interface: 'net1',
      mac: '0a:0b:0c:01:02:03',
      vlan_id: 7,
      nic_tag: 'internal',
      primary: true,
      gateway: '10.1.0.1',
      gateways: ['10.1.0.1'],
      netmask: '255.255.0.0',
      ip: '10.1.0.5',
      ips: ['10.1.0.5/16'],
    });
    assert.deepStrictEqual([third.interface, third.ip, third.ips], ['net2', 'dhcp', ['dhcp']]);
    const lx = await made({
      brand: 'lx',
      kernel_version: '4.3.0',
      image_uuid: IMAGE,
      nics: [{ nic_tag: 'external', ip: 'dhcp' }],
    });
    assert.strictEqual((lx.nics as Vm[])[0]?.interface, 'eth0');
  });

  it('accepts text for numbers, truth values and lists', async () => {
    const expected = {
      autoboot: false,
      cpu_cap: 200,
      firewall_enabled: true,
      fs_allowed: 'ufs,pcfs',
      internal_metadata_namespaces: ['app', 'db'],
      limit_priv: 'default,dtrace_user',
      maintain_resolvers: true,
      max_physical_memory: 1024,
      max_swap: 2048,
      resolvers: ['8.8.8.8', '8.8.4.4'],
      state: 'stopped',
      tmpfs: 512,
    };
    const payload = {
      image_uuid: IMAGE,
      autoboot: 'false',
      cpu_cap: '200',
      firewall_enabled: '1',
      fs_allowed: ['ufs', 'pcfs'],
      internal_metadata_namespaces: 'app,db',
      limit_priv: ['default', 'dtrace_user'],
      maintain_resolvers: 'true',
      max_physical_memory: '1024',
      max_swap: '2048',
      resolvers: '8.8.8.8,8.8.4.4',
      tmpfs: '512',
      nowait: true,
      mdata_exec_timeout: 900,
      zfs_snapshot_limit: '',
      docker: false,
    };
    const vm = await made(payload);
    assert.deepStrictEqual(pick(vm, expected), expected);
    for (const name of ['nowait', 'mdata_exec_timeout', 'zfs_snapshot_limit', 'docker', 'ram']) {
      assert(name === 'ram' || !(name in vm), name);
    }
  });

  it('keeps limits that contradict each other within each other', async () => {
    const vm = await made({
      image_uuid: IMAGE,
      max_physical_memory: 512,
      max_locked_memory: 4096,
      max_swap: 300,
      tmpfs: 4096,
      cpu_shares: 99999,
    });
    assert.deepStrictEqual(
      [vm.max_locked_memory, vm.max_swap, vm.tmpfs, vm.cpu_shares],
      [512, 512, 512, 65535],
    );
  });

  it('gives a docker zone its namespace, its id, and an init that is not restarted', async () => {
    const vm = await made({
      brand: 'joyent-minimal',
      image_uuid: IMAGE,
      docker: 'true',
      internal_metadata: { 'docker:cmd': '["sh"]' },
      internal_metadata_namespaces: ['app'],
    });
    const { 'docker:id': id, ...others } = vm.internal_metadata as Vm;
    assert.deepStrictEqual(others, { 'docker:cmd': '["sh"]' });
    assert.match(String(id), /^[0-9a-f]{64}$/);
    assert(String(id).startsWith(String(vm.uuid).replaceAll('-', '')));
    assert.deepStrictEqual(vm.internal_metadata_namespaces, ['app', 'docker']);
    assert.deepStrictEqual(
      [vm.docker, vm.restart_init, vm.init_name],
      [true, false, '/usr/vm/sbin/dockerinit'],
    );
  });

  it('drops what is not for the brand, with a warning', async () => {
    const warning = 'Warning, invalid create property: [delegate_dataset] removing from payload.';
    const payload = { brand: 'bhyve', delegate_dataset: true, nics: [{ ip: 'dhcp', colour: 1 }] };
    const { status, stdout, stderr } = await node.simcn(['create'], JSON.stringify(payload));
    assert.strictEqual(status, 0, stderr);
    assert.deepStrictEqual(stderr.trimEnd().split('\n'), [
      `simcn: VM 0: ${warning}`,
      `simcn: VM 0: ${warning.replace('delegate_dataset', 'nics.*.colour')}`,
    ]);
    const vm = await get(stdout.trim());
    assert(!('datasets' in vm) && !('delegate_dataset' in vm));
    assert(!('colour' in ((vm.nics as Vm[])[0] ?? {})));
    await node.ok(['destroy', stdout.trim()]);
    const result = await node.vmadm(['create'], JSON.stringify({ ...payload, nics: [] }));
    assert.match(result.stderr, new RegExp(`^${warning.replace(/[[\].]/g, '\\$&')}\nSuccessfully`));
    await node.ok(['destroy', result.stderr.trim().split(' ').at(-1) ?? '']);
  });

  it('refuses with the platform’s messages, and makes nothing', async () => {
    const base = { image_uuid: IMAGE };
    const nic = { nic_tag: 'external', ips: ['10.0.0.5/24'] };
    for (const [payload, words] of [
      [{ brand: 'joyent' }, 'Missing required properties: image_uuid'],
      [{ ...base, brand: 'solaris10' }, 'Unsupported brand: solaris10'],
      [{ ...base, uuid: 'nonsense' }, 'Invalid value(s) for: uuid'],
      [
        { ...base, customer_metadata: { deep: { er: 1 } } },
        'Invalid value(s) for: customer_metadata',
      ],
      [{ ...base, tags: { none: null }, alias: 7 }, 'Invalid value(s) for: tags,alias'],
      [{ ...base, ram: 'much' }, 'Invalid value for ram: null:number'],
      [{ ...base, fs_allowed: { a: 1 } }, 'Invalid value(s) for: fs_allowed'],
      [{ ...base, resolvers: ['dns.example.com'] }, 'Invalid value(s) for: resolvers'],
      [{ ...base, zpool: 'tank' }, 'Invalid value(s) for: zpool'],
      [{ ...base, nics: [{ ...nic, mac: 'x' }] }, 'Invalid value(s) for: nics.*.mac'],
      [
        { ...base, nics: [{ nic_tag: 'external', ip: '10.0.0.5', mac: '02:00:00:00:00:01' }] },
        'Missing .netmask option for NIC: ' +
          '{"nic_tag":"external","ip":"10.0.0.5","mac":"02:00:00:00:00:01"}',
      ],
      [
        { ...base, nics: [{ ...nic, netmask: '255.0.255.0' }] },
        'Specified netmask value is invalid: 255.0.255.0',
      ],
      [{ ...base, nics: [nic, nic] }, 'Cannot add multiple NICs with the same IP: 10.0.0.5/24'],
      [
        { ...base, nics: [{ ...nic, gateways: ['fd00::1'] }] },
        'Static gateways must be IPv4 addresses: fd00::1',
      ],
      [
        { ...base, routes: { '10.9.0.0/16': 'nics[0]' } },
        'Route gateway: "nics[0]" refers to non-existent or DHCP nic',
      ],
      [
        { ...base, routes: { somewhere: '10.0.0.1' } },
        'Invalid route destination: "somewhere" (must be IP address or CIDR)',
      ],
      [
        { ...base, zfs_root_recsize: 1000 },
        'invalid zfs_root_recsize (1000), must be 512-131072 and a power of 2. (0 to disable)',
      ],
      [{ brand: 'kvm', disks: [{ model: 'virtio' }] }, 'Missing required properties: disks.0.size'],
      [
        { brand: 'bhyve', disks: [{ size: 1, model: 'scsi' }] },
        '"scsi" is not a valid disk model for bhyve brand. Valid are: virtio,ahci,nvme',
      ],
    ] as const) {
      assert.strictEqual(await refused(payload), words);
    }
    assert.match(
      await refused({ ...base, nics: [{ ip: 'dhcp' }] }),
      /^invalid or missing .nic_tag/,
    );
    assert.match(
      await refused({ brand: 'kvm', nics: [{ ip: 'dhcp', nic_tag: 'external' }] }),
      /^missing .model option for NIC: /,
    );
    assert.strictEqual(await node.ok(['ls', '--json']), '[]\n');
  });

  it('refuses a nic that another VM has', async () => {
    const nics = [{ nic_tag: 'external', ips: ['10.0.0.9/24'] }];
    const first = await node.vmadm(['create'], JSON.stringify({ image_uuid: IMAGE, nics }));
    assert.strictEqual(first.status, 0);
    assert.strictEqual(
      await refused({ image_uuid: IMAGE, nics }),
      'Conflict detected with another vm, please check the MAC, IP, and VRID',
    );
    const other = { nic_tag: 'internal', ips: ['10.0.0.9/24'] };
    await made({ image_uuid: IMAGE, nics: [other] });
    await node.ok(['destroy', first.stderr.trim().split(' ').at(-1) ?? '']);
  });

  it('asks for no image where simcn creates, as this node has none', async () => {
    const [uuid = ''] = (await node.ok(['create'], '{"nics":[{"ip":"dhcp"}]}')).split('\n');
    const vm = await get(uuid);
    assert(!('image_uuid' in vm));
    assert.deepStrictEqual((vm.nics as Vm[])[0]?.nic_tag, 'external');
    assert.strictEqual((vm.nics as Vm[])[0]?.interface, 'net0');
    await node.ok(['destroy', uuid]);
  });

  it('accepts what vmadm get printed', async () => {
    const payload = {
      image_uuid: IMAGE,
      alias: 'again',
      delegate_dataset: true,
      nics: [{ nic_tag: 'external', ips: ['10.0.0.5/24'], gateways: ['10.0.0.1'] }],
      customer_metadata: { k: 'v' },
      tags: { role: 'db' },
    };
    const vm = await made(payload);
    const [uuid] = (await node.ok(['create'], JSON.stringify(vm))).split('\n');
    const again = await get(String(uuid));
    for (const name of [
      'datasets',
      'nics',
      'customer_metadata',
      'tags',
      'create_timestamp',
      'quota',
    ]) {
      assert.deepStrictEqual(again[name], vm[name], name);
    }
    await node.ok(['destroy', String(uuid)]);
    const second = await made(vm);
    assert.deepStrictEqual(second.nics, vm.nics);
    assert(!('datasets' in second), 'for vmadm it is a payload, and datasets are no part of one');
  });
});
