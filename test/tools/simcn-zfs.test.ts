import assert from 'node:assert';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';

import { needs, pending } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';

const ZONE = 'a5894692-bd32-4ca1-908a-e2dda3c3a5e6';
const PLAIN = '54f1cc77-68f1-42ab-acac-5c4f64f5d6e0';
const SET = `zones/${ZONE}/data`;

describe('simcn: zfs', function () {
  this.timeout(60_000);
  let node: SimNode;

  before(async function () {
    needs(this, whyNoNode());
    const vms = [
      { uuid: ZONE, brand: 'joyent', delegate_dataset: true },
      { uuid: PLAIN, brand: 'joyent' },
    ];
    node = await SimNode.start({ vms });
    if ((await node.exec(ZONE, 'true')).status !== 0) {
      pending(this, 'no zone can be entered, for want of namespaces');
    }
  });
  after(async () => {
    // Undefined where the suite was skipped.
    await (node as SimNode | undefined)?.stop();
  });

  async function sh(script: string): Promise<string> {
    const { status, stdout, stderr } = await node.exec(ZONE, 'sh', '-c', script);
    assert.strictEqual(status, 0, `${script}: ${stderr}`);
    return stdout;
  }

  async function fails(script: string, why: RegExp): Promise<void> {
    const { status, stderr } = await node.exec(ZONE, 'sh', '-c', script);
    assert.strictEqual(status, 1, script);
    assert.match(stderr, why);
  }

  it('shows a zone its own datasets only, and the node those of all zones', async () => {
    assert.strictEqual(await sh('zfs list -H -o name,mountpoint'), `${SET}\t/${SET}\n`);
    const none = await node.exec(PLAIN, 'zfs', 'list');
    assert.deepStrictEqual(none, { status: 0, stdout: '', stderr: 'no datasets available\n' });
    const listed = await node.run([node.path('/usr/sbin/zfs'), 'list', '-H', '-o', 'name,type']);
    assert.deepStrictEqual(
      listed.stdout,
      ['zones', `zones/${ZONE}`, SET, `zones/${PLAIN}`].map((n) => `${n}\tfilesystem\n`).join(''),
    );
  });

  it('lets a zone change what was delegated, and nothing else', async () => {
    await fails(`zfs create zones/${PLAIN}/data`, /^cannot create '.*': permission denied$/m);
    await fails(`zfs create ${SET}/a/b`, /parent does not exist/);
    await fails(`zfs create ${SET}/../x`, /parent does not exist|permission denied/);
    await fails(`zfs snapshot zones/${ZONE}@x`, /dataset does not exist/);
    await fails(`zfs destroy -r ${SET}`, /permission denied/);
    const { status } = await node.exec(PLAIN, 'zfs', 'create', 'zones/x');
    assert.strictEqual(status, 1);
  });

  it('snapshots a dataset without those below it, and rolls back to the last', async () => {
    await sh(`echo 1 > /${SET}/top; zfs create ${SET}/db; echo 1 > /${SET}/db/rows`);
    await sh(`zfs snapshot ${SET}@one`);
    await sh(
      `echo 2 > /${SET}/top; echo 2 > /${SET}/db/rows; rm -f /${SET}/none; touch /${SET}/new`,
    );
    await sh(`zfs rollback ${SET}@one`);
    assert.strictEqual(await sh(`cat /${SET}/top /${SET}/db/rows; ls /${SET}`), '1\n2\ndb\ntop\n');
    await sh(`zfs snapshot ${SET}@two`);
    await fails(`zfs rollback ${SET}@one`, /more recent snapshots exist/);
    await fails(`zfs snapshot ${SET}@two`, /already exists/);
    await sh(`zfs destroy ${SET}@two && zfs rollback ${SET}@one`);
    await fails(`zfs destroy ${SET}@two`, /could not find any snapshots/);
  });

  it('does not follow a link that a guest put in the place of a dataset', async () => {
    const outside = node.path('/outside');
    mkdirSync(outside);
    writeFileSync(`${outside}/precious`, 'kept');
    await sh(`zfs create ${SET}/trap; zfs snapshot ${SET}/trap@s`);
    await sh(`rmdir /${SET}/trap; ln -s ${outside} /${SET}/trap`);
    await fails(`zfs rollback ${SET}/trap@s`, /busy/);
    await fails(`zfs destroy -r ${SET}/trap`, /busy/);
    assert(existsSync(`${outside}/precious`));
    await sh(`rm /${SET}/trap; zfs destroy -r ${SET}/trap`);
  });

  it('fixes the privilege to receive when the zone boots', async () => {
    const recv = `zfs send ${SET}@one | zfs recv ${SET}/copy`;
    await sh(`zfs snapshot ${SET}/db@s`);
    const payload = JSON.stringify({ limit_priv: 'default,-sys_fs_import' });
    assert.strictEqual((await node.vmadm(['update', ZONE], payload)).status, 0);
    await sh(recv);
    assert.strictEqual(await sh(`cat /${SET}/copy/top`), '1\n');
    await node.ok(['reboot', ZONE]);
    await sh(`zfs destroy ${SET}/copy`);
    await fails(recv, /permission denied/);
  });

  it('has it all again when the node comes back, and nothing of a zone that was destroyed', async () => {
    const before = await sh('zfs list -H -t all -o name,type');
    await node.end();
    node = await SimNode.start({ root: node.root });
    assert.strictEqual(await sh('zfs list -H -t all -o name,type'), before);
    await node.ok(['destroy', ZONE]);
    assert(!existsSync(node.path(`/${SET}`)));
    assert(!existsSync(node.path(`/system/simcn/zfs/${ZONE}`)));
  });

  it('refuses a payload that breaks a rule, with the rule’s name', async () => {
    for (const [payload, why] of [
      [{ brand: 'joyent', delegate_dataset: 'Safe' }, /delegate-dataset-value: /],
      [{ brand: 'kvm', delegate_dataset: 'safe' }, /hvm-brand: /],
      [
        { delegate_dataset: 'safe', platform_buildstamp: '20150101T000000Z' },
        /platform-too-old: .*20150101T000000Z.*20150418T000000Z/,
      ],
      [
        { delegate_dataset: 'safe', limit_priv: 'default,sys_fs_import' },
        /limit-priv-grants-import: /,
      ],
    ] as const) {
      const { status, stderr } = await node.simcn(['create'], JSON.stringify(payload));
      assert.strictEqual(status, 1);
      assert.match(stderr, why);
    }
  });
});
