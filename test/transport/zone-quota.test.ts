import assert from 'node:assert';
import { MemoryQuota, ZoneQuota } from '../../src/transport/zone-quota';
import { eventually } from '../support/eventually';
import { KIB, LIMITS, Member } from '../support/quota-member';

describe('the quota of a zone', () => {
  it('makes a large reply wait for others of its zone, and reserves the room for it then', () => {
    const zone = new ZoneQuota(LIMITS, new MemoryQuota(() => Infinity));
    const [first, second, third] = [new Member(zone), new Member(zone), new Member(zone)];
    assert.ok(
      zone.takeReplyRoom(first.account, 300 * KIB),
      'one that is larger than the limit may be alone',
    );
    assert.ok(!zone.takeReplyRoom(second.account, 60 * KIB));
    assert.ok(!zone.takeReplyRoom(third.account, 60 * KIB));
    zone.cancel(first.account);
    assert.deepStrictEqual([second.rooms, third.rooms], [1, 0]);
    assert.strictEqual(zone.replyBytes, 60 * KIB);
    assert.ok(zone.takeReplyRoom(second.account, 60 * KIB));
    second.account.close();
    assert.deepStrictEqual([third.rooms, zone.replyBytes], [1, 60 * KIB]);
    third.account.close();
    assert.strictEqual(zone.replyBytes, 0);
  });

  it('frees the room of a member that is removed before it used it', () => {
    const zone = new ZoneQuota(LIMITS, new MemoryQuota(() => Infinity));
    const [first, second, third] = [new Member(zone), new Member(zone), new Member(zone)];
    first.add(100 * KIB);
    zone.takeReplyRoom(second.account, 100 * KIB);
    zone.takeReplyRoom(third.account, 100 * KIB);
    first.add(-100 * KIB);
    second.account.close();
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
    assert.ok(!zone.takeReplyRoom(modest.account, 40 * KIB));
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

  it('closes no connection of a zone that holds little, however full it is', () => {
    const memory = new MemoryQuota(() => 10 * KIB);
    const [some, little, most] = [20, 1, 65].map((size) => {
      const member = new Member(new ZoneQuota(LIMITS, memory));
      member.add(size * KIB);
      member.stillMs = size === 65 ? 0 : 60_000;
      return member;
    });
    memory.tick();
    assert.deepStrictEqual(
      [some, little, most].map((member) => member?.evicted),
      [false, false, false],
    );
    assert.ok(most !== undefined);
    most.stillMs = 60_000;
    memory.tick();
    assert.ok(most.evicted);
  });

  it('lets connections be read again when there is memory, or their zone holds little', () => {
    const memory = new MemoryQuota(() => 100 * KIB);
    const [greedy, first, second] = [60, 70, 80].map((size) => {
      const member = new Member(new ZoneQuota(LIMITS, memory));
      member.add(size * KIB);
      return member;
    });
    assert.ok(greedy !== undefined && first !== undefined && second !== undefined);
    const rooms = (): number[] => [greedy, first, second].map((member) => member.rooms);
    assert.ok(greedy.zone.mayRead(greedy.account), 'its zone holds little');
    assert.ok(!first.zone.mayRead(first.account));
    assert.ok(!second.zone.mayRead(second.account));
    memory.tick();
    assert.deepStrictEqual(rooms(), [0, 0, 0]);
    first.add(-70 * KIB);
    memory.tick();
    assert.deepStrictEqual(rooms(), [0, 1, 0]);
    greedy.add(-50 * KIB);
    memory.tick();
    memory.tick();
    assert.deepStrictEqual(rooms(), [0, 1, 1]);
    assert.ok(second.zone.mayRead(second.account));
  });

  it('serves a zone that began to wait while room was made', async () => {
    const memory = new MemoryQuota(() => 100 * KIB);
    const [stalled, late] = [90, 70].map((size) => {
      const member = new Member(new ZoneQuota(LIMITS, memory));
      member.add(size * KIB);
      return member;
    });
    assert.ok(stalled !== undefined && late !== undefined);
    stalled.stillMs = 60_000;
    stalled.evict = () => {
      assert.ok(!late.zone.mayRead(late.account));
      stalled.account.close();
    };
    await eventually(() => late.rooms === 1, 'it is served');
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
