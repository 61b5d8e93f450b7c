import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { eventually } from '../support/eventually';
import { needs } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const GUEST = 'aaac8650-4b58-6633-9054-a2c22e7beb36';
const NONE = '00000000-0000-4000-8000-000000000000';
const VMS = [
  {
    uuid: ZONE,
    brand: 'joyent',
    alias: 'web0',
    max_physical_memory: 512,
    nics: [{ mac: '90:b8:d0:f5:e4:f5', interface: 'net0', ip: '10.2.1.20' }],
    customer_metadata: { colour: 'blue', shape: 'round' },
    internal_metadata: { root_pw: 'secret' },
  },
  { uuid: GUEST, brand: 'bhyve', alias: 'vm0', ram: 1024 },
];

type Vm = Readonly<Record<string, unknown>>;

describe('simcn: vmadm', function () {
  this.timeout(60_000);
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: VMS, canaries: false });
  });
  after(async () => {
    await (node as SimNode | undefined)?.stop();
  });

  const parse = (text: string) => JSON.parse(text) as Vm;
  const update = (payload: unknown, ...args: string[]) =>
    node.vmadm(['update', ZONE, ...args], JSON.stringify(payload));
  const metadata = () =>
    parse(readFileSync(node.path(`/zones/${ZONE}/config/metadata.json`), 'utf8'));

  it('looks up uuids, whole objects, chosen fields, and by filter', async () => {
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
    assert.strictEqual((await node.vmadm(['lookup', '-o', 'alias'])).status, 2);
    assert.strictEqual((await node.vmadm(['lookup', 'colour=blue'])).status, 2);
  });

  it('shows one VM, with the type that only the command line adds', async () => {
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.strictEqual(shown.type, 'OS');
    assert.deepStrictEqual(shown.customer_metadata, { colour: 'blue', shape: 'round' });
  });

  it('has the words and statuses of the platform for what goes wrong', async () => {
    const told = async (argv: string[], stdin = '') => {
      const { status, stdout, stderr } = await node.vmadm(argv, stdin);
      assert.strictEqual(stdout, '');
      return [status, stderr.split('\n')[0]];
    };
    assert.deepStrictEqual(await told(['get', NONE]), [
      1,
      `zoneadm: ${NONE}: No such zone configured`,
    ]);
    assert.deepStrictEqual(await told(['update', NONE], '{}'), [1, `VM ${NONE} not found`]);
    const [status, words] = await told(['update', ZONE], '{');
    assert.strictEqual(status, 1);
    assert.match(String(words), /^Invalid JSON payload: /);
    for (const payload of [
      { set_customer_metadata: { k: { deep: 1 } } },
      { set_customer_metadata: { k: null } },
      { remove_customer_metadata: ['a,b'] },
      { remove_customer_metadata: 'a' },
      { brand: 'lx' },
    ]) {
      assert.deepStrictEqual(await told(['update', ZONE], JSON.stringify(payload)), [
        1,
        `Invalid value(s) for: ${Object.keys(payload).join(',')}`,
      ]);
    }
    assert.strictEqual((await told(['get', 'nonsense']))[0], 2);
    assert.strictEqual((await told(['frobnicate', ZONE]))[0], 2);
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
      update_nics: [{ mac: '90:b8:d0:f5:e4:f5', ip: '10.2.1.21' }],
    });
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.strictEqual(shown.alias, 'web1');
    assert.deepStrictEqual(shown.resolvers, ['10.0.0.1']);
    assert.deepStrictEqual(shown.tags, { role: 'db' });
    assert.deepStrictEqual(shown.routes, { '10.9.0.0/16': 'nics[0]' });
    assert.deepStrictEqual(shown.nics, [
      { mac: '90:b8:d0:f5:e4:f5', interface: 'net0', ip: '10.2.1.21' },
    ]);
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
