import assert from 'node:assert';
import { destroyedByReprovision, snapshotScope } from '../../tools/simcn/snapshot-scope';

describe('scope of snapshots', () => {
  it('is the zoneroot, and leaves the delegated datasets as they are', () => {
    const vm = { brand: 'joyent', zfs_filesystem: 'zones/a', datasets: ['zones/a/data'] };
    assert.deepStrictEqual(snapshotScope(vm), {
      kind: 'zoneroot',
      dataset: 'zones/a',
      untouched: ['zones/a/data'],
    });
  });

  it('is refused for kvm guests, and no others', () => {
    const bhyve = snapshotScope({ brand: 'bhyve', zfs_filesystem: 'zones/a' });
    assert.strictEqual(bhyve.kind, 'zoneroot');
    for (const vm of [{ brand: 'kvm' }, { hvm: true }]) {
      const scope = snapshotScope({ ...vm, zfs_filesystem: 'zones/a' });
      assert(scope.kind === 'refused');
      assert.match(scope.why, /kvm guest/);
    }
  });

  it('is refused while the zoneroot is not known', () => {
    for (const vm of [{}, { zfs_filesystem: '' }, { zfs_filesystem: 7 }]) {
      const scope = snapshotScope({ brand: 'lx', ...vm });
      assert(scope.kind === 'refused');
      assert.match(scope.why, /dataset of the zoneroot/);
    }
  });

  it('of a reprovision is every snapshot of the zoneroot and none of the delegated dataset', () => {
    const snapshots = ['zones/a@vmsnap-1', 'zones/a@other', 'zones/a/data@vmsnap-1', 'zones/ab@1'];
    assert.deepStrictEqual(destroyedByReprovision('zones/a', snapshots), [
      'zones/a@vmsnap-1',
      'zones/a@other',
    ]);
  });
});
