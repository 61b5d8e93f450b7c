/* The node's vmadm: the commands that make, move and remove VMs, and their snapshots. */
import assert from 'node:assert';

import type { SimNode } from '../support/simcn';
import { GUEST, IMAGE, NONE, parse, type Vm, vmadmNode, ZONE } from '../support/vmadm-node';

describe('simcn: vmadm moves VMs', function () {
  this.timeout(60_000);
  let node: SimNode;

  const { update, metadata } = vmadmNode((started) => (node = started));

  it('starts, stops, reboots and deletes with the messages that scripts wait for', async () => {
    const uuid = '54f1cc77-68f1-42ab-acac-5c4f64f5d6e0';
    const outcome = async (argv: string[], stdin = '') => {
      const { status, stderr } = await node.vmadm(argv, stdin);
      return [status, stderr.split('\n')[0]];
    };
    const payload = { uuid, brand: 'joyent', image_uuid: IMAGE, autoboot: 'false' };
    assert.deepStrictEqual(await outcome(['create'], JSON.stringify(payload)), [
      0,
      `Successfully created VM ${uuid}`,
    ]);
    assert.deepStrictEqual(await outcome(['create'], JSON.stringify(payload)), [
      1,
      `VM with UUID ${uuid} already exists`,
    ]);
    for (const [argv, status, words] of [
      [['stop', uuid], 0, `VM ${uuid} is already not 'running' (currently: stopped)`],
      [['reboot', uuid], 1, 'Cannot reboot vm from state "stopped", must be "running"'],
      [['start', uuid, 'colour=blue'], 2, 'Invalid argument to start: colour'],
      [['start', uuid], 0, `Successfully started VM ${uuid}`],
      [['start', uuid], 0, `VM ${uuid} is already 'running'`],
      [['reboot', '-F', uuid], 0, `Successfully completed reboot for VM ${uuid}`],
      [['stop', '-F', '-t', '3', uuid], 0, `Successfully completed stop for VM ${uuid}`],
      [['start', NONE], 1, `Unable to start VM ${NONE}: bad statusCode: 404`],
      [['stop', NONE], 1, `VM ${NONE} not found`],
      [['update', uuid, 'indestructible_zoneroot=true'], 0, `Successfully updated VM ${uuid}`],
      [
        ['delete', uuid],
        1,
        `Failed to delete VM ${uuid}: indestructible_zoneroot is set, cannot delete`,
      ],
      [['update', uuid, 'indestructible_zoneroot=false'], 0, `Successfully updated VM ${uuid}`],
      [['delete', uuid], 0, `Successfully deleted VM ${uuid}`],
      [['delete', uuid], 1, `Failed to delete VM ${uuid}: VM ${uuid} not found`],
      [['delete', 'web0'], 2, 'Invalid or missing UUID for delete'],
      [['frobnicate'], 2, 'Invalid command: "frobnicate".'],
    ] as const) {
      assert.deepStrictEqual(await outcome([...argv]), [status, words]);
    }
  });

  it('creates, rolls back to and deletes snapshots, and refuses those that the platform refuses', async () => {
    const outcome = async (...argv: string[]) => {
      const { status, stderr } = await node.vmadm(argv);
      return [status, stderr.split('\n')[0]];
    };
    const names = async () => {
      const shown = parse((await node.vmadm(['get', ZONE])).stdout);
      return (shown.snapshots as { name: string }[]).map(({ name }) => name);
    };
    await update({ set_customer_metadata: { day: 'one' }, set_tags: { day: '1' } });
    assert.deepStrictEqual(await outcome('create-snapshot', ZONE, 'a'), [
      0,
      `Created snapshot a for VM ${ZONE}`,
    ]);
    assert.deepStrictEqual(await outcome('create-snapshot', ZONE, 'a'), [
      1,
      'snapshot with name "a" already exists.',
    ]);
    await outcome('create-snapshot', ZONE, 'b');
    assert.deepStrictEqual(await names(), ['b', 'a']);
    await update({ set_customer_metadata: { day: 'two' }, set_tags: { day: '2' } });
    assert.deepStrictEqual(await outcome('rollback-snapshot', ZONE, 'a'), [
      0,
      `Rolled back snapshot a for VM ${ZONE}`,
    ]);
    const shown = parse((await node.vmadm(['get', ZONE])).stdout);
    assert.strictEqual((shown.customer_metadata as Vm).day, 'one');
    assert.strictEqual((metadata().customer_metadata as Vm).day, 'one');
    assert.strictEqual((shown.tags as Vm).day, '1');
    assert.deepStrictEqual(await names(), ['a'], 'later snapshots are gone');
    assert.deepStrictEqual(await outcome('delete-snapshot', ZONE, 'a'), [
      0,
      `Deleted snapshot a for VM ${ZONE}`,
    ]);
    assert.deepStrictEqual(await outcome('delete-snapshot', ZONE, 'a'), [
      1,
      `No snapshot named "a" for ${ZONE}`,
    ]);
    assert.deepStrictEqual(await outcome('create-snapshot', ZONE, 'a/b'), [
      1,
      'Invalid snapshot name',
    ]);
    assert.strictEqual((await outcome('create-snapshot', ZONE))[0], 2);
    assert.strictEqual(
      (await outcome('create-snapshot', GUEST, 'a'))[0],
      0,
      'of a bhyve guest too',
    );
  });

  it('refuses a snapshot of a kvm guest, nor of a zone with datasets', async () => {
    for (const [more, words] of [
      [{ brand: 'kvm' }, 'snapshots for kvm VMs currently unsupported'],
      [
        { brand: 'joyent', image_uuid: IMAGE, delegate_dataset: true },
        'Cannot currently snapshot zones that have datasets',
      ],
    ] as const) {
      const uuid = '64f1cc77-68f1-42ab-acac-5c4f64f5d6e0';
      const made = await node.vmadm(['create'], JSON.stringify({ uuid, ...more }));
      assert.strictEqual(made.status, 0, made.stderr);
      const { status, stderr } = await node.vmadm(['create-snapshot', uuid, 's']);
      assert.deepStrictEqual([status, stderr], [1, `${words}\n`]);
      await node.vmadm(['delete', uuid]);
    }
  });
});
