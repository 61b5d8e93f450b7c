/* What one connection to vminfod does to whoever shares its event loop. */
import assert from 'node:assert';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { followEvents } from '../../src/vm/event-stream';
import { VmCache } from '../../src/vm/vm-cache';
import { tempDir, type TempDir } from '../support/temp-dir';
import { vmObject, zonenameOf } from '../support/vm-objects';

const EVENTS = 200;
/** What an event costs whoever follows the table: half of what may hold up the guests. */
const WORK_MS = 1;
/** Some slices' full: one piece of what the kernel gave holds all of them. */
const MOST_IN_A_TURN = 10;

describe('the event stream', () => {
  let dir: TempDir;
  let server: Server;

  beforeEach(() => (dir = tempDir()));

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    dir.remove();
  });

  it('lets others have their turns within a burst of events', async () => {
    const path = join(dir.path, 'vminfod.sock');
    const lines = Array.from({ length: EVENTS }, (_, i) => {
      const zonename = zonenameOf(i);
      const vm = { uuid: zonename, zonename, brand: 'bhyve', zonepath: '/z' };
      return `${JSON.stringify({ type: 'create', zonename, vm })}\n`;
    });
    const vms = JSON.stringify([vmObject(zonenameOf(EVENTS))]);
    const ready = `${JSON.stringify({ type: 'ready', vms })}\n`;
    server = createServer((_, response) => response.write(ready + lines.join(''))).listen(path);
    await once(server, 'listening');
    const table = new VmCache();
    let inTurn = 0;
    const most = { ofTurns: 0 };
    table.on('changed', () => {
      most.ofTurns = Math.max(most.ofTurns, ++inTurn);
      const end = performance.now() + WORK_MS;
      while (performance.now() < end);
    });
    const over = new AbortController();
    const options = { url: `unix:${path}`, table, observe: () => undefined };
    const followed = followEvents(options, over.signal, () => undefined);
    while (table.size <= EVENTS) {
      await turn();
      inTurn = 0;
    }
    over.abort(new Error('over'));
    await assert.rejects(followed, /over/);
    assert.ok(most.ofTurns <= MOST_IN_A_TURN, `${most.ofTurns} events in one turn`);
  });
});
