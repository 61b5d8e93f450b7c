import assert from 'node:assert';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ZoneRoots } from '../../src/platform/zone-root';
import { childrenOf } from '../support/children';
import { eventually } from '../support/eventually';
import { tempDir, type TempDir } from '../support/temp-dir';

/** In the place of zone_root: what it is asked for says how it behaves. */
const STAND_IN = `#!${process.execPath}
const requests = new (require('node:net').Socket)({ fd: 4 });
requests.on('data', (bytes) => {
  const [call, root, path] = bytes.toString().split('\\0');
  const reply = () => process.send({ err: 0, call, depth: 0, identity: root, dev: '1', ino: '2' });
  if (path === '/die') process.exit(1);
  if (path === '/odd') process.send({ result: 'none' });
  else if (path === '/slow') setTimeout(reply, 1500);
  else if (path !== '/hang') reply();
});
requests.on('close', () => process.exit(0));
`;
const HUNG_ZONES = 12;
/** As many work at the same time. */
const WORKING = 8;

describe('what lies below zones\u2019 roots', function () {
  this.timeout(30_000);
  let directory: TempDir;
  let roots: ZoneRoots;

  beforeEach(() => {
    directory = tempDir();
    const program = join(directory.path, 'stand-in');
    writeFileSync(program, STAND_IN);
    chmodSync(program, 0o755);
    roots = new ZoneRoots(directory.path, program);
  });

  afterEach(() => {
    roots.stop();
    directory.remove();
  });

  it('is reached at each zone\u2019s own root', async () => {
    const zones = ['/a', '/b', '/c'].map((zonepath) => roots.of(zonepath));
    const found = await Promise.all(zones.map((zone) => zone.find('/x')));
    assert.deepStrictEqual(found, ['/a/root', '/b/root', '/c/root']);
    assert.strictEqual(zones[0]?.nameOf('/x'), '/a/root/x');
  });

  it('is reached while many other zones hang, with one process for each of those', async () => {
    const hung = Array.from({ length: HUNG_ZONES }, (_, n) => roots.of(`/hung${n}`));
    for (const zone of hung) {
      // Rejected in the end, when the test stops.
      void zone.find('/hang').catch(() => undefined);
      void zone.find('/hang').catch(() => undefined);
    }
    assert.strictEqual(await roots.of('/other').find('/x'), '/other/root');
    await eventually(() => hung.every((zone) => !zone.answers), 'all hang', 10_000);
    assert(roots.of('/other').answers);
    await Promise.all(hung.map((_, n) => roots.of(`/well${n}`).find('/x')));
    const processes = childrenOf(process.pid, directory.path);
    assert(processes <= HUNG_ZONES + WORKING, `${processes} processes`);
  });

  it('has one request under way for a zone, which no later one replaces', async () => {
    const zone = roots.of('/zone');
    await assert.rejects(zone.find('/hang', AbortSignal.timeout(300)), { code: 'ECANCELED' });
    await assert.rejects(zone.find('/x', AbortSignal.timeout(300)), { code: 'ECANCELED' });
    // Also to a zone that came back under its path.
    const later = roots.of('/zone').find('/x', AbortSignal.timeout(300));
    await assert.rejects(later, { code: 'ECANCELED' });
    assert.strictEqual(childrenOf(process.pid, directory.path), 1);
  });

  it('logs when a zone hangs, and when it answers again', async () => {
    const reported: string[] = [];
    const zone = roots.of('/zone', {
      warn: (_, msg) => reported.push(msg),
      info: ({ after_ms }, msg) => reported.push(after_ms >= 1000 ? msg : `${after_ms} ms`),
    });
    await zone.find('/slow');
    assert.deepStrictEqual(reported, [
      'the file system below the zone root does not answer',
      'the file system below the zone root answers again',
    ]);
    assert(zone.answers);
    await zone.find('/x');
    assert.strictEqual(reported.length, 2);
  });

  it('fails when the process dies, and is reached by the next one', async () => {
    const zone = roots.of('/zone');
    for (let n = 0; n < 3; n++) {
      await assert.rejects(zone.find('/die'), { code: 'EPIPE' });
      assert.strictEqual(await zone.find('/x'), '/zone/root');
    }
  });

  it('fails where the reply cannot be read, and is reached by the next one', async () => {
    const zone = roots.of('/zone');
    await assert.rejects(zone.find('/odd'), /^SystemError: zone_root\(\/zone\/root\).*no member/);
    assert.strictEqual(await zone.find('/x'), '/zone/root');
  });

  it('fails where no process can be started', async () => {
    const none = new ZoneRoots(directory.path, join(directory.path, 'nothing'));
    await assert.rejects(none.of('/zone').find('/x'), { code: 'ENOENT' });
    none.stop();
  });

  it('is refused for what is not a path', async () => {
    const zone = roots.of('/zone');
    await assert.rejects(zone.find('/a\0b'), { code: 'EINVAL' });
    await assert.rejects(zone.find(`/${'x'.repeat(5000)}`), { code: 'EINVAL' });
  });

  it('does not delay a stop, and is not reached after it', async () => {
    const zone = roots.of('/zone');
    const waiting = [zone.find('/hang'), zone.find('/x')].map((asked) =>
      assert.rejects(asked, { code: 'ECANCELED' }),
    );
    await eventually(() => !zone.answers, 'it hangs', 5000);
    roots.stop();
    await Promise.all(waiting);
    await assert.rejects(zone.find('/x'), { code: 'ECANCELED' });
  });
});
