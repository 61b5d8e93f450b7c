/*
 * What becomes of the zones at the node's next boot: svc:/system/zones boots them, and requires an online
 * instance of svc:/system/smartdc/metadata.
 */
import assert from 'node:assert';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  MDATAD,
  NodeRoot,
  PLATFORM_AGENT,
  STAND_IN,
  TAKEOVER,
  ZONES,
  type Outcome,
} from '../support/node-root';
import { makePackage, otherRelease } from '../support/smf-package';

const METADATA = 'system/smartdc/metadata';
const IMPORT = 'svc:/system/manifest-import:default';
const SERVER = 'svc:/milestone/multi-user-server:default';

/** Who comes first where several services could start. */
const ORDERS: ReadonlyMap<string, readonly string[]> = new Map([
  ['manifests are imported first', [IMPORT]],
  ['manifests are imported last', [PLATFORM_AGENT, SERVER, ZONES]],
  ['the takeover comes before all of its dependents', [IMPORT, TAKEOVER, MDATAD, STAND_IN]],
  ["zones are looked at before everything, the platform's agent next", [ZONES, PLATFORM_AGENT]],
  ["the platform's agent is online before the takeover", [PLATFORM_AGENT, IMPORT, SERVER, ZONES]],
  ['the stand-in is looked at before mdatad', [STAND_IN, ZONES, MDATAD, TAKEOVER, PLATFORM_AGENT]],
]);

describe('a reboot', function () {
  this.timeout(120_000);

  let base = '';
  let unpacked = '';
  let second = '';
  let node: NodeRoot;

  before(() => {
    base = mkdtempSync(join(tmpdir(), 'mdf-'));
    unpacked = makePackage(base).unpacked;
    second = otherRelease(unpacked, '9.0.0-second', 'serve');
  });

  after(() => rmSync(base, { recursive: true }));

  beforeEach(() => {
    node = new NodeRoot();
  });

  afterEach(() => node.remove());

  function script(release: string, name: string): Outcome {
    return node.run(join(release, 'smf', name), ['--root', node.root, '--wait', '10']);
  }

  function succeed({ status, stdout, stderr }: Outcome): void {
    assert.strictEqual(status, 0, stdout + stderr);
  }

  /** The zones booted, and when they did, mdatad served and the platform's agent did not. */
  function assertZonesBootedAfterMdatad(): void {
    const history = node.history();
    const all = history.join('\n');
    const zones = history.indexOf(`${ZONES} online`);
    assert.notStrictEqual(zones, -1, `the zones did not boot:\n${all}`);
    const before = history.slice(0, zones);
    const last = (fmri: string): string | undefined =>
      before.filter((line) => line.startsWith(`${fmri} `)).at(-1);
    assert.strictEqual(last(MDATAD), `${MDATAD} online`, all);
    assert.strictEqual(last(STAND_IN), `${STAND_IN} online`, all);
    assert.strictEqual(last(PLATFORM_AGENT), `${PLATFORM_AGENT} disabled`, all);
  }

  for (const [title, order] of ORDERS) {
    it(`boots the zones once mdatad has their sockets: ${title}`, () => {
      succeed(script(unpacked, 'install'));
      const pid = node.daemonPid();
      node.reboot(order);
      assertZonesBootedAfterMdatad();
      assert.notStrictEqual(node.daemonPid(), pid);
    });
  }

  it('boots them after an upgrade, and after a rollback', () => {
    succeed(script(unpacked, 'install'));
    succeed(script(second, 'upgrade'));
    node.reboot();
    assertZonesBootedAfterMdatad();
    succeed(script(unpacked, 'upgrade'));
    node.reboot();
    assertZonesBootedAfterMdatad();
  });

  it("boots them with the platform's agent after uninstall, of which nothing is left", () => {
    const service = node.groups(METADATA);
    const zones = node.groups('system/zones');
    succeed(script(unpacked, 'install'));
    assert.deepStrictEqual(node.groups(METADATA), service);
    succeed(script(unpacked, 'uninstall'));
    assert.deepStrictEqual(node.groups(METADATA), service);
    assert.deepStrictEqual(node.groups('system/zones'), zones);
    assert.strictEqual(node.state(STAND_IN), undefined);
    assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
    node.reboot();
    assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
    assert.strictEqual(node.state(ZONES), 'online');
  });

  it('comes back to mdatad where an operator had disabled it: what svcadm did is lost', () => {
    succeed(script(unpacked, 'install'));
    succeed(node.run('svcadm', ['disable', '-s', MDATAD]));
    assert.notStrictEqual(node.state(STAND_IN), 'online');
    assert.strictEqual(node.state(ZONES), 'online');
    node.reboot();
    assertZonesBootedAfterMdatad();
  });

  it("steps aside for this uptime where an operator enables the platform's agent", () => {
    succeed(script(unpacked, 'install'));
    succeed(node.run('svcadm', ['enable', '-s', PLATFORM_AGENT]));
    assert.strictEqual(node.state(MDATAD), 'offline');
    assert.strictEqual(node.state(STAND_IN), 'offline');
    assert.strictEqual(node.state(ZONES), 'online');
    succeed(node.run('svcadm', ['disable', '-s', PLATFORM_AGENT]));
    assert.strictEqual(node.state(MDATAD), 'online');
    assert.strictEqual(node.state(STAND_IN), 'online');
  });

  it("boots no zone while mdatad is in maintenance, until it serves or the platform's agent is enabled", () => {
    succeed(script(unpacked, 'install'));
    const settings = node.at('opt/mdatad/etc/mdatad.json');
    writeFileSync(settings, 'not JSON');
    node.reboot();
    assert.strictEqual(node.state(MDATAD), 'maintenance');
    assert.strictEqual(node.state(ZONES), 'offline');
    succeed(node.run('svcadm', ['enable', '-s', PLATFORM_AGENT]));
    assert.strictEqual(node.state(ZONES), 'online');
    rmSync(settings);
    node.reboot();
    assertZonesBootedAfterMdatad();
  });

  it("leaves the platform's agent enabled when the stand-in cannot be created", () => {
    succeed(script(unpacked, 'install'));
    appendFileSync(node.at('opt/mdatad/current/smf/stand-in.svccfg'), 'unknown command\n');
    node.reboot();
    assert.strictEqual(node.state(TAKEOVER), 'maintenance');
    assert.strictEqual(node.state(PLATFORM_AGENT), 'online');
    assert.strictEqual(node.state(ZONES), 'online');
    // Nor half of it, in which nothing could be set any more.
    assert.strictEqual(node.state(STAND_IN), undefined);
  });

  it('would remove the methods of the platform agent if a manifest created the stand-in', () => {
    const manifest = join(base, 'stand-in.xml');
    writeFileSync(
      manifest,
      `<?xml version="1.0"?>
<!DOCTYPE service_bundle SYSTEM "/usr/share/lib/xml/dtd/service_bundle.dtd.1">
<service_bundle type='manifest' name='stand-in'>
  <service name='${METADATA}' type='service' version='1'><instance name='mdatad' enabled='true'/></service>
</service_bundle>`,
    );
    assert('start' in node.groups(METADATA));
    succeed(node.run('svccfg', ['import', manifest]));
    assert(!('start' in node.groups(METADATA)));
  });
});
