/*
 * A hypervisor process that was compromised leads the agent's dials to another VM's port: by a rename, by a
 * link, by a mount. However the race ends, no connection to the other zone is kept.
 */
import assert from 'node:assert';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { codeOf } from '../../src/lib/errors';
import { ZoneRoots } from '../../src/platform/zone-root';
import { dialPort } from '../../src/transport/serial-dialer';
import { fdOf } from '../../src/transport/net-stream';
import { Ttyb } from '../../tools/simcn/ttyb';
import { makeNode, STATUS, type EmulatedNode } from '../support/emulated-node';
import { eventually } from '../support/eventually';
import { describeWhere, whyNotRoot } from '../support/pending';
import { whyNoNode } from '../support/simcn';
import { tempDir, type TempDir } from '../support/temp-dir';

/** Raised by hand: PORT_RACES=10000. */
const RACES = Number(process.env.PORT_RACES ?? 1000);
const SOURCE = join(__dirname, '..', '..', '..', 'test', 'support', 'port-racer.c');

function whyNoCc(): string | null {
  return spawnSync('cc', ['--version']).status === 0 ? null : 'needs cc';
}

describeWhere(
  whyNotRoot() ?? whyNoNode() ?? whyNoCc(),
  'a hypervisor that leads dials astray',
  function () {
    this.timeout(Math.max(60_000, RACES * 60));
    let directory: TempDir;
    let racer: string;
    let node: EmulatedNode;
    let roots: ZoneRoots;
    let own: Ttyb;
    let other: Ttyb;

    before(() => {
      directory = tempDir();
      racer = join(directory.path, 'racer');
      const { status, stderr } = spawnSync('cc', ['-O2', '-Wall', '-o', racer, SOURCE]);
      assert.strictEqual(status, 0, String(stderr));
    });

    after(() => directory.remove());

    beforeEach(async () => {
      node = makeNode();
      roots = new ZoneRoots(node.root);
      own = await makePort('own');
      other = await makePort('other');
    });

    afterEach(async () => {
      roots.stop();
      await own.stop();
      await other.stop();
      node.remove();
    });

    /** A zone that runs, and the port of its guest, who says whose it is. */
    async function makePort(zonename: string): Promise<Ttyb> {
      node.addZone(zonename, 'bhyve');
      node.emulation.zoneStatus(zonename, STATUS.initialized, 0);
      node.emulation.zoneStatus(zonename, STATUS.running, 0);
      const zoneroot = node.paths.host(`/zones/${zonename}/root`);
      mkdirSync(join(zoneroot, 'tmp'));
      const port = new Ttyb({ path: join(zoneroot, 'tmp/vm.ttyb'), kind: 'bhyve', zoneroot });
      port.guest.on('attached', () => port.guest.write(zonename));
      await port.start();
      return port;
    }

    function dial(): Promise<Socket> {
      return dialPort(
        {
          zonename: 'own',
          root: roots.of(node.paths.host('/zones/own')),
          zoneOfPeer: (fd) => {
            const { zoneid } = node.platform.peer(fd);
            return zoneid <= 0 ? 'global' : node.platform.zoneName(zoneid);
          },
        },
        '/tmp/vm.ttyb',
        () => undefined,
        new AbortController().signal,
      );
    }

    it('is met by its own zone\u2019s process without interference', async () => {
      const socket = await dial();
      assert.strictEqual(String((await once(socket.resume(), 'data'))[0]), 'own');
      assert(fdOf(socket) !== undefined);
      socket.destroy();
    });

    for (const how of ['rename', 'link', 'symlink', 'mount']) {
      it(`by ${how}: none of ${RACES} dials is kept that another zone answered`, async () => {
        const child = spawn(racer, [how, join(own.path, '..'), join(other.path, '..')], {
          stdio: ['pipe', 'inherit', 'inherit'],
        });
        const came = { own: 0, nothing: 0, turnedDown: new Map<string, number>() };
        for (let n = 0; n < RACES; n++) {
          try {
            const socket = await dial();
            // A port in use closes the connection.
            const words = await Promise.race([
              once(socket.resume(), 'data'),
              once(socket, 'close'),
            ]);
            const word = words[0] instanceof Buffer ? String(words[0]) : '';
            assert.notStrictEqual(word, 'other', 'another zone answered');
            came[word === 'own' ? 'own' : 'nothing']++;
            socket.destroy();
          } catch (err) {
            if (err instanceof assert.AssertionError) {
              throw err;
            }
            const code = codeOf(err);
            came.turnedDown.set(code, (came.turnedDown.get(code) ?? 0) + 1);
          }
        }
        const ended = once(child, 'exit');
        child.stdin.end();
        await ended;
        const counts = JSON.stringify([came.own, came.nothing, [...came.turnedDown]]);
        if (how === 'mount') {
          assert((came.turnedDown.get('EOTHERZONE') ?? 0) > 0, `the attack is none: ${counts}`);
        }
        await eventually(() => !other.connected, 'nobody stays with the other zone');
        await eventually(
          async () => {
            const socket = await dial().catch(() => null);
            socket?.destroy();
            return socket !== null;
          },
          `its own port is reached afterwards (${counts})`,
          5000,
        );
      });
    }
  },
);
