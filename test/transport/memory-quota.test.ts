import assert from 'node:assert';
import { MemoryQuota } from '../../src/transport/memory-quota';
import { ZoneQuota } from '../../src/transport/zone-quota';
import { KIB, LIMITS, Member } from '../support/quota-member';

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
