/*
 * The room on the zones' disks, asked for in the background.
 */
import assert from 'node:assert';
import { SystemError } from '../../src/lib/errors';
import { FreeSpace, type FreeSpaceOptions } from '../../src/admin/free-space';
import type { Zone } from '../../src/zones/zone';
import { eventually } from '../support/eventually';
import { openThings } from '../support/open-things';

/** As much of a zone as is asked for. */
function zonesOf(count: number): Zone[] {
  return Array.from({ length: count }, (_, i) => ({ zonename: `zone${i}` }) as Zone);
}

/** Directories that were asked about, in order, and how to answer those that wait. */
class Disks {
  readonly asked: string[] = [];
  readonly free = new Map<string, number>();
  readonly hanging = new Map<string, (bytes: number) => void>();
  underWay = 0;
  mostUnderWay = 0;

  readonly ask = async (directory: string): Promise<number> => {
    this.asked.push(directory);
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    try {
      const free = this.free.get(directory) ?? 1e9;
      return free < 0 ? await new Promise((resolve) => this.hanging.set(directory, resolve)) : free;
    } finally {
      this.underWay--;
    }
  };
}

function watch(zones: Zone[], disks: Disks, more: Partial<FreeSpaceOptions> = {}): FreeSpace {
  return new FreeSpace({
    zones: () => zones,
    directoryOf: ({ zonename }) => zonename,
    metadataBytes: () => 1024,
    ask: disks.ask,
    passMs: 1,
    answerMs: 20,
    ...more,
  });
}

describe('the free space of the zones’ file systems', () => {
  it('is measured for every zone, one after the other', async () => {
    const disks = new Disks();
    const zones = zonesOf(1000);
    const room = watch(zones, disks);
    assert.strictEqual(room.last('zone3'), 'not asked');
    const before = openThings();
    room.start();
    await eventually(() => disks.asked.length >= 1001, 'the next pass begins');
    room.stop();
    room.stop();
    assert.deepStrictEqual(
      disks.asked.slice(0, 1000),
      zones.map(({ zonename }) => zonename),
    );
    assert.strictEqual(disks.mostUnderWay, 1);
    assert.strictEqual(room.last('zone999'), 1e9);
    await eventually(() => JSON.stringify(openThings()) === JSON.stringify(before));
  });

  it('is measured again at once on request', async () => {
    const disks = new Disks();
    const [zone] = zonesOf(1);
    assert(zone !== undefined);
    const room = watch([zone], disks);
    disks.free.set('zone0', 5);
    assert.strictEqual(await room.now(zone), 5);
    disks.free.set('zone0', 7);
    assert.deepStrictEqual(await Promise.all([room.now(zone), room.now(zone)]), [7, 7]);
    assert.deepStrictEqual(disks.asked, ['zone0', 'zone0', 'zone0']);
  });

  it('is scarce where a second copy of what a guest may write does not fit', async () => {
    const [zone] = zonesOf(1);
    assert(zone !== undefined);
    const disks = new Disks();
    let metadataBytes = 4 * 1024 * 1024;
    const room = watch([zone], disks, { metadataBytes: () => metadataBytes });
    disks.free.set('zone0', metadataBytes - 1);
    assert.strictEqual(await room.scarce(zone, true), metadataBytes - 1);
    disks.free.set('zone0', metadataBytes);
    assert.strictEqual(await room.scarce(zone, true), null);
    metadataBytes = 1024;
    disks.free.set('zone0', 64 * 1024 - 1);
    assert.strictEqual(await room.scarce(zone, true), 64 * 1024 - 1);
    disks.free.set('zone0', 64 * 1024);
    assert.strictEqual(await room.scarce(zone, true), null);
  });

  it('is the error where the directory cannot be measured', async () => {
    const [zone] = zonesOf(1);
    assert(zone !== undefined);
    const err = new SystemError('statvfs', 'zone0', 'EIO');
    const refused = (): Promise<number> => Promise.reject(err);
    const room = watch([zone], new Disks(), { ask: refused });
    assert.strictEqual(await room.now(zone), err);
    assert.strictEqual(await room.scarce(zone, true), null);
  });

  it('takes two threads at most of those that hang, one for a zone, until one answers', async () => {
    const disks = new Disks();
    const zones = zonesOf(24);
    for (const hung of ['zone0', 'zone1', 'zone2']) {
      disks.free.set(hung, -1);
    }
    const room = watch(zones, disks);
    room.start();
    await eventually(() => disks.hanging.size === 2 && room.last('zone1') === 'not answering');
    // Passes that begin now ask nobody.
    const [first, other] = [zones[0], zones[23]];
    assert(first !== undefined && other !== undefined);
    assert.strictEqual(await room.now(first), 'not answering');
    assert.strictEqual(await room.now(other), 'not asked');
    assert.deepStrictEqual(disks.asked, ['zone0', 'zone1']);
    disks.free.clear();
    disks.hanging.get('zone0')?.(3);
    await eventually(() => room.last('zone0') === 3 || room.last('zone0') === 1e9);
    await eventually(() => room.last('zone23') === 1e9);
    assert.strictEqual(room.last('zone1'), 'not answering');
    assert.strictEqual(disks.asked.filter((asked) => asked === 'zone1').length, 1);
    room.stop();
    disks.hanging.get('zone1')?.(3);
  });

  it('takes no more threads where many request it at once', async () => {
    const disks = new Disks();
    const zones = zonesOf(24);
    for (const { zonename } of zones) {
      disks.free.set(zonename, -1);
    }
    const room = watch(zones, disks);
    const rooms = await Promise.all(zones.map((zone) => room.now(zone)));
    assert.deepStrictEqual(new Set(rooms.slice(2)), new Set(['not asked']));
    assert.deepStrictEqual(disks.asked, ['zone0', 'zone1']);
    for (const answer of disks.hanging.values()) {
      answer(3);
    }
  });

  it('forgets zones that are gone', async () => {
    const disks = new Disks();
    const zones = zonesOf(2);
    const room = watch(zones, disks);
    room.start();
    await eventually(() => room.last('zone0') === 1e9 && room.last('zone1') === 1e9);
    zones.pop();
    await eventually(() => room.last('zone1') === 'not asked');
    assert.strictEqual(room.last('zone0'), 1e9);
    room.stop();
  });
});
