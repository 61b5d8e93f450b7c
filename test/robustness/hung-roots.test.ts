/*
 * Guests that mount a file system which never answers below their zone's root, where the agent searches for
 * their port or their mount: their own service waits for it, and nothing else does.
 */
import assert from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import { isJsonObject } from '../../src/metadata/vm-data';
import { askJson } from '../support/admin';
import { childrenOf } from '../support/children';
import { eventually } from '../support/eventually';
import { portConnections } from '../support/guest-port';
import { HangingFileSystems, whyNoHangingFs } from '../support/hanging-fs';
import { Neighbour } from '../support/neighbour';
import { describeWhere } from '../support/pending';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { whyNoNode } from '../support/simcn';

const NEIGHBOUR = 0;
const GUEST = 1;
/** More than libuv's pool has threads, and than processes work at a time. */
const HUNG_PORTS = Array.from({ length: 32 }, (_, n) => 0x100 + n);
const HUNG_MOUNTS = Array.from({ length: 4 }, (_, n) => 0x200 + n);
const [HUNG_PORT = 0] = HUNG_PORTS;
const [HUNG_MOUNT = 0] = HUNG_MOUNTS;
const PRESSED_MS = 3000;
/** 5 s are promised. */
const STOP_MS = 5500;
const SOON_MS = 3000;
/** Until the back-off of a link brings the next dial. */
const RECOVERED_MS = 15_000;

describeWhere(
  whyNoHangingFs() ?? whyNoNode(),
  'zones whose file systems never answer',
  function () {
    this.timeout(120_000);
    let hanging: HangingFileSystems;
    let cn: SimulatedNode;
    let neighbour: Neighbour;

    before(async function () {
      const ports = [GUEST, ...HUNG_PORTS].map((index) => osZone(index, { brand: 'bhyve' }));
      const mounts = [NEIGHBOUR, ...HUNG_MOUNTS].map((index) => osZone(index));
      const config = { reconcile_seconds: 1 };
      cn = await SimulatedNode.start(this, { vms: [...ports, ...mounts], config });
      hanging = new HangingFileSystems();
      await cn.agent.stop();
      for (const index of HUNG_PORTS) {
        await hanging.mountOn(rootOf(index, 'tmp'));
      }
      for (const index of HUNG_MOUNTS) {
        await hanging.mountOn(rootOf(index, '.zonecontrol'));
      }
      await cn.startAgent();
      neighbour = await Neighbour.at(cn.socket(NEIGHBOUR), uuidOf(NEIGHBOUR));
    });

    after(async () => {
      await hanging.remove();
      await neighbour.leave();
      await cn.stop();
    });

    function rootOf(index: number, name = '.'): string {
      return cn.node.path(`/zones/${uuidOf(index)}/root/${name}`).replace(/\/$/, '');
    }

    async function said(index: number): Promise<{ link: unknown; mount: unknown }> {
      const report = await askJson(cn.root, `/zones/${uuidOf(index)}`);
      assert(isJsonObject(report));
      return { link: report.link, mount: report.mount };
    }

    it('are reported as not answering, each and no other', async () => {
      await eventually(
        async () => (await said(HUNG_PORT)).link === 'not answering',
        'port',
        10_000,
      );
      await eventually(
        async () => (await said(HUNG_MOUNT)).mount === 'not answering',
        'mount',
        10_000,
      );
      assert.strictEqual((await said(GUEST)).link, 'connected');
      assert.strictEqual((await said(NEIGHBOUR)).mount, 'mounted by the brand');
      const text = 'the file system below the zone root does not answer';
      await eventually(() => {
        return cn.records(text).length === HUNG_PORTS.length + HUNG_MOUNTS.length;
      }, 'all are reported');
      const status = JSON.stringify(await askJson(cn.root, '/status'));
      assert.match(status, /file-system-not-answering/);
    });

    it('hold up no GET and no PUT of others', async () => {
      await neighbour.isServedDuring(async () => {
        const session = await cn.open(NEIGHBOUR);
        for (const end = performance.now() + PRESSED_MS; performance.now() < end;) {
          const { code, ms } = await session.put('k', String(end));
          assert.strictEqual(code, 'SUCCESS');
          assert(ms < SOON_MS, `${ms} ms`);
          await delay(50);
        }
        session.close();
      });
    });

    it('hold up no port of others', async () => {
      for (let n = 0; n < 3; n++) {
        const before = portConnections(rootOf(GUEST));
        await cn.control('reboot', { uuid: uuidOf(GUEST), guest: true });
        await eventually(
          () => portConnections(rootOf(GUEST)).some((inode) => !before.includes(inode)),
          'the guest is back',
          SOON_MS,
        );
      }
    });

    it('do not delay the doctor, which names them', async () => {
      for (const index of [HUNG_PORT, HUNG_MOUNT]) {
        const began = performance.now();
        const report = JSON.stringify(await askJson(cn.root, `/doctor/${uuidOf(index)}`));
        assert.match(report, /is not answering/);
        assert(performance.now() - began < 2 * SOON_MS);
      }
    });

    it('cost one process each, however often they are checked', async () => {
      await delay(3000);
      const most = HUNG_PORTS.length + HUNG_MOUNTS.length + 10;
      assert(childrenOf(cn.agent.pid) <= most, `${childrenOf(cn.agent.pid)} processes`);
    });

    it('keep neither the agent from stopping nor the next one from starting', async () => {
      await neighbour.leave();
      const began = performance.now();
      await cn.agent.stop();
      assert(performance.now() - began < STOP_MS, `${performance.now() - began} ms`);
      await cn.startAgent();
      assert(await cn.answers(NEIGHBOUR));
    });

    it('are served again when they answer', async () => {
      await eventually(
        async () => (await said(HUNG_PORT)).link === 'not answering',
        'port',
        10_000,
      );
      for (const index of HUNG_PORTS) {
        await hanging.letGo(rootOf(index, 'tmp'));
      }
      for (const index of HUNG_MOUNTS) {
        await hanging.letGo(rootOf(index, '.zonecontrol'));
      }
      for (const index of HUNG_PORTS) {
        await eventually(
          () => portConnections(rootOf(index)).length === 1,
          `port ${index}`,
          RECOVERED_MS,
        );
        assert.strictEqual((await said(index)).link, 'connected');
      }
      const right = async (): Promise<boolean> => {
        return (await said(HUNG_MOUNT)).mount === 'mounted by the brand';
      };
      await eventually(right, 'mount', RECOVERED_MS);
    });
  },
);
