import assert from 'node:assert';
import { MemoryQuota, ZoneQuota, type QuotaMember } from '../../src/transport/zone-quota';

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

  hold(bytes: number): void {
    this.held += bytes;
    this.zone.changed(this, bytes, 0);
  }

  roomMade(): void {
    this.rooms++;
  }

  recount(): void {
    // It knows what it holds.
  }

  evict(): void {
    this.evicted = true;
    this.hold(-this.held);
    this.zone.leave(this);
  }
}

const LIMITS = { unsentBytes: 100 * KIB, lineBytes: 100 * KIB };

describe('the quota of a zone', () => {
  it('lets a large reply wait for others of its zone, and keeps the room for who is told of it', () => {
    const zone = new ZoneQuota(LIMITS);
    const [first, second, third] = [new Member(zone), new Member(zone), new Member(zone)];
    assert.ok(zone.reply(first, 300 * KIB).fits, 'one that is larger than the limit may be alone');
    first.hold(300 * KIB);
    assert.deepStrictEqual(zone.reply(second, 60 * KIB), { fits: false, isNew: true });
    assert.deepStrictEqual(zone.reply(third, 60 * KIB), { fits: false, isNew: true });
    first.hold(-300 * KIB);
    assert.deepStrictEqual([second.rooms, third.rooms], [1, 0]);
    assert.strictEqual(zone.replyBytes, 60 * KIB);
    assert.ok(zone.reply(second, 60 * KIB).fits);
    zone.leave(second);
    assert.strictEqual(zone.replyBytes, 0);
  });

  it('gives back the room of a member that leaves before it used it', () => {
    const zone = new ZoneQuota(LIMITS);
    const [first, second, third] = [new Member(zone), new Member(zone), new Member(zone)];
    first.hold(100 * KIB);
    zone.reply(second, 100 * KIB);
    zone.reply(third, 100 * KIB);
    first.hold(-100 * KIB);
    zone.leave(second);
    assert.strictEqual(third.rooms, 1);
  });
});

describe('the quota of the process', () => {
  const zones = (limit: number): { memory: MemoryQuota; greedy: Member[]; modest: Member } => {
    const memory = new MemoryQuota(() => limit);
    const greedy = [60, 90].map((size) => {
      const member = new Member(new ZoneQuota(LIMITS, memory));
      member.hold(size * KIB);
      return member;
    });
    const zone = new ZoneQuota(LIMITS, memory);
    const modest = new Member(zone);
    assert.ok(!zone.reply(modest, 40 * KIB).fits);
    return { memory, greedy, modest };
  };

  it('closes a peer of the zone that holds most when another zone has no room', () => {
    const { memory, greedy, modest } = zones(160 * KIB);
    greedy.forEach((member) => (member.stillMs = 60_000));
    memory.tick();
    assert.deepStrictEqual(
      greedy.map(({ evicted }) => evicted),
      [false, true],
    );
    assert.strictEqual(modest.rooms, 1);
  });

  it('closes nobody whose peer reads', () => {
    const { memory, greedy, modest } = zones(160 * KIB);
    memory.tick();
    assert.ok(greedy.every(({ evicted }) => !evicted));
    assert.strictEqual(modest.rooms, 0);
    greedy[1]?.hold(-90 * KIB);
    memory.tick();
    assert.strictEqual(modest.rooms, 1);
  });
});
