/*
 * vminfod's state in words, and the question that finds a wedged one.
 */
import assert from 'node:assert';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { healthOf, pingVminfod, whyBehind } from '../../src/admin/vminfod-health';
import type { StoreStatus } from '../../src/vm/store';
import { tempDir } from '../support/temp-dir';

const NOW = 10_000_000;

function statusWith(vminfod: Partial<StoreStatus['vminfod']>, more: object = {}): StoreStatus {
  return {
    vminfod: {
      state: 'following',
      since: NOW - 60_000,
      outageSince: null,
      reconnects: 0,
      lastError: null,
      ...vminfod,
    },
    vms: 12,
    tracked: 12,
    waiting: 0,
    writer: {
      inProgress: [],
      failing: [],
      stored: 0,
      failed: 0,
      changed: 0,
      joined: 0,
      timedOut: 0,
    },
    holds: 0,
    unconfirmed: 0,
    restored: 0,
    ...more,
  };
}

describe('the health of vminfod', () => {
  it('says how long it has been down, and what is served meanwhile', () => {
    const down = statusWith({
      state: 'connecting',
      since: NOW - 100,
      outageSince: NOW - 180_000,
      lastError: 'GET /events: ECONNREFUSED',
    });
    const { verdict, reason, words, remedy } = healthOf(down, 'refused', NOW);
    assert.strictEqual(verdict, 'fail');
    assert.strictEqual(reason, 'vminfod-down');
    assert.match(words, /^has been down for 3 minutes; serving what was last known of 12 VMs/);
    assert.match(words, /ECONNREFUSED/);
    assert.match(remedy, /svcadm/);
  });

  it('distinguishes a wedged one from a healthy one behind the same open stream', () => {
    const well = healthOf(statusWith({}), 3.5, NOW);
    assert.deepStrictEqual([well.verdict, well.remedy], ['ok', '']);
    assert.strictEqual(well.words, 'following for 1 minute, 12 VMs, answers in 3.5 ms');
    const wedged = healthOf(statusWith({}), 'no answer within 1 second', NOW);
    assert.deepStrictEqual([wedged.verdict, wedged.reason], ['fail', 'vminfod-wedged']);
    assert.match(wedged.words, /is wedged: .*no answer within 1 second/);
  });

  it('counts the writes that were not confirmed, which may be long past', () => {
    const { verdict, words } = healthOf(statusWith({}, { unconfirmed: 2 }), 1, NOW);
    assert.strictEqual(verdict, 'ok');
    assert.match(words, /2 writes not confirmed since the start/);
  });

  it('waits a second for one that never answers, and tells the time of one that does', async () => {
    const dir = tempDir();
    const path = join(dir.path, 'vminfod.sock');
    let isMute = true;
    const server = createServer((_request, response) => {
      if (!isMute) {
        response.end('{"ping":"pong"}');
      }
    });
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    try {
      assert.strictEqual(await pingVminfod(`unix:${path}`), 'no answer within 1 second');
      isMute = false;
      assert.strictEqual(typeof (await pingVminfod(`unix:${path}`)), 'number');
    } finally {
      server.closeAllConnections();
      server.close();
      dir.remove();
    }
    assert.match(String(await pingVminfod(`unix:${path}`)), /ENOENT/);
  });

  it('finds by the state or the id of a zone that it missed an event', () => {
    const zone = { zonename: 'a', state: 'running' } as const;
    const states = new Map([['a', { state: 'running', zoneid: 7 } as const]]);
    const why = (zoneState?: string, zoneid?: number): string | null =>
      whyBehind({ zoneState, zoneid }, zone, states);
    assert.match(why('installed', 7) ?? '', /it says installed, the platform says running/);
    assert.match(why('running', 6) ?? '', /it missed a reboot \(it says zone id 6, .* says 7\)/);
    assert.strictEqual(why('running', 7), null);
    assert.strictEqual(why(), null);
    assert.strictEqual(whyBehind({ zoneid: 6 }, { ...zone, zonename: 'b' }, states), null);
  });
});
