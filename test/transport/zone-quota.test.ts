import assert from 'node:assert';
import { ZoneQuota } from '../../src/transport/zone-quota';
import { KIB, LIMITS, Member } from '../support/quota-member';

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
