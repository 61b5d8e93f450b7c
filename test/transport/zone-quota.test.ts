import assert from 'node:assert';
import { MemoryQuota } from '../../src/transport/memory-quota';
import { ZoneQuota, type QuotaMember } from '../../src/transport/zone-quota';

const KIB = 1024;

class Member implements QuotaMember {
  held = 0;
  stillMs = 0;
  rooms = 0;
  evicted = false;
  private readonly zone: ZoneQuota;

  constructor(zone: ZoneQuota) {
    this.zone = zone;
  }

  add(bytes: number): void {
    this.held += bytes;
    this.zone.changed(this, bytes, 0);
  }

  roomMade(): void {
    this.rooms++;
  }

  recount(): void {
    // What it holds is exact.
  }

  evict(): void {
    this.evicted = true;
    this.add(-this.held);
    this.zone.remove(this);
  }
}

const LIMITS = { replyBytes: 100 * KIB, lineBytes: 100 * KIB };

describe('the quota of a zone', () => {
  it('makes a large reply wait for others of its zone, and reserves the room for it then', () => {
    const zone = new ZoneQuota(LIMITS);
    const [first, second, third] = [new Member(zone), new Member(zone), new Member(zone)];
    assert.ok(zone.reply(first, 300 * KIB).fits, 'one that is larger than the limit may be alone');
    first.add(300 * KIB);
    assert.deepStrictEqual(zone.reply(second, 60 * KIB), { fits: false, isNew: true });
    assert.deepStrictEqual(zone.reply(third, 60 * KIB), { fits: false, isNew: true });
    first.add(-300 * KIB);
    assert.deepStrictEqual([second.rooms, third.rooms], [1, 0]);
    assert.strictEqual(zone.replyBytes, 60 * KIB);
    assert.ok(zone.reply(second, 60 * KIB).fits);
    zone.remove(second);
    assert.strictEqual(zone.replyBytes, 0);
  });

  it('frees the room of a member that is removed before it used it', () => {
    const zone = new ZoneQuota(LIMITS);
    const [first, second, third] = [new Member(zone), new Member(zone), new Member(zone)];
    first.add(100 * KIB);
    zone.reply(second, 100 * KIB);
    zone.reply(third, 100 * KIB);
    first.add(-100 * KIB);
    zone.remove(second);
    assert.strictEqual(third.rooms, 1);
  });
});

describe('the quota of the process', () => {
  const zones = (limit: number): { memory: MemoryQuota; greedy: Member[]; modest: Member } => {
    const memory = new MemoryQuota(() => limit);
    const greedy = [60, 90].map((size) => {
      const member = new Member(new ZoneQuota(LIMITS, memory));
      member.add(size * KIB);
      return member;
    });
    const zone = new ZoneQuota(LIMITS, memory);
    const modest = new Member(zone);
    assert.ok(!zone.reply(modest, 40 * KIB).fits);
    return { memory, greedy, modest };
  };

  it('closes a connection of the zone that holds most when another zone has no room', () => {
    const { memory, greedy, modest } = zones(160 * KIB);
    greedy.forEach((member) => (member.stillMs = 60_000));
    memory.tick();
    assert.deepStrictEqual(
      greedy.map(({ evicted }) => evicted),
      [false, true],
    );
    assert.strictEqual(modest.rooms, 1);
  });

  it('does not close a connection whose peer reads', () => {
    const { memory, greedy, modest } = zones(160 * KIB);
    memory.tick();
    assert.ok(greedy.every(({ evicted }) => !evicted));
    assert.strictEqual(modest.rooms, 0);
    greedy[1]?.add(-90 * KIB);
    memory.tick();
    assert.strictEqual(modest.rooms, 1);
  });
});
