/*
 * A real Linux guest under qemu, with a client of ours in it, against the real agent on a simulated node:
 * one guest's life from its first boot to its end. What the guest does is in client-init.sh; each test
 * here awaits the next part of it, so they only make sense together, in this order.
 */
import assert from 'node:assert';
import { createHash } from 'node:crypto';
import { join } from 'node:path';

import { eventually } from '../support/eventually';
import { AgentProcess } from '../support/guest-agent';
import { GuestConsole } from '../support/guest-console';
import { makeInitrd } from '../support/guest-initrd';
import { guestPackages, KERNEL_ARGUMENTS } from '../support/guest-packages';
import { portConnections } from '../support/guest-port';
import { GUEST_VM_KEYS, GUEST_VM_USER_SCRIPT, guestVm } from '../support/guest-vm';
import { needs, pending } from '../support/pending';
import { SimNode, whyNoNode } from '../support/simcn';
import { tempDir, type TempDir } from '../support/temp-dir';

const INIT = join(__dirname, '..', '..', '..', 'test', 'guest', 'client-init.sh');
const UUID = 'aaac8650-4b58-6633-9054-a2c22e7beb36';
const TOKEN = 'made by Linux on x86_64';
const LINES = 'one\n..two\n\u00e9 \u2603';

/** A boot takes two seconds of an idle machine in software. */
const BOOT_MS = 90_000;
const STEP_MS = 45_000;
/** A client whose first reset is lost waits two seconds for its answer, and one more. */
const ANSWER_S = 2;
/** A reconnect, from the guest's hypervisor being there. */
const RECONNECT_MS = 1000;
/** The client's own pauses after a line that another one left unfinished, and one round more. */
const NOISE_S = 7;

describe('a real guest, with a small client of its own', function () {
  this.timeout(BOOT_MS + STEP_MS);
  let directory: TempDir;
  let node: SimNode | undefined;
  let agent: AgentProcess | undefined;
  let guest: GuestConsole;
  let zoneroot: string;
  let connection: readonly string[];

  before(async function () {
    const parts = await guestPackages();
    if (typeof parts === 'string') {
      pending(this, parts);
    }
    needs(this, whyNoNode());
    directory = tempDir();
    const initrd = await makeInitrd(directory.path, parts, INIT);
    node = await SimNode.start();
    agent = await AgentProcess.start(node.root);
    const simcn = { kernel: parts.kernel, initrd, append: KERNEL_ARGUMENTS };
    await node.ok(['create', '--boot'], JSON.stringify(guestVm(UUID, 'kvm', { simcn })));
    guest = new GuestConsole(node.path(`/zones/${UUID}/logs/console.log`));
    zoneroot = node.path(`/zones/${UUID}/root`);
  });

  after(async () => {
    try {
      await agent?.stop();
    } finally {
      await node?.stop();
      (directory as TempDir | undefined)?.remove();
    }
    // A child's handle closes a moment after its exit.
    const children = () => process.getActiveResourcesInfo().includes('ProcessWrap');
    await eventually(() => !children(), 'the end of all processes');
  });

  it('is connected before it asks, and answered at once', async () => {
    const [, asked] = await guest.until(/^GUEST asks at ([\d.]+) s$/, BOOT_MS);
    const [, answered] = await guest.until(/^GUEST boot 1 answered at ([\d.]+) s$/, STEP_MS);
    assert(
      Number(answered) - Number(asked) < ANSWER_S,
      `asked at ${asked}, answered ${answered} s`,
    );
  });

  it('reads what is kept of it, and finds out what is not there', async () => {
    await guest.until(new RegExp(`^GUEST uuid ${UUID}$`), STEP_MS);
    const [, keys] = await guest.until(/^GUEST keys (.*)$/, STEP_MS);
    assert.deepStrictEqual(keys?.trim().split(' '), GUEST_VM_KEYS);
    const [, script] = await guest.until(/^GUEST user-script (\w+)$/, STEP_MS);
    assert.strictEqual(script, digestOf(`${GUEST_VM_USER_SCRIPT}\n`));
    await guest.until(/^GUEST nosuch is not there$/, STEP_MS);
  });

  it('puts values, also large ones and such of several lines, and deletes', async () => {
    await guest.until(new RegExp(`^GUEST token ${TOKEN}$`), STEP_MS);
    const [, lines] = await guest.until(/^GUEST lines (\w+)$/, STEP_MS);
    assert.strictEqual(lines, digestOf(`${LINES}\n`));
    await guest.until(/^GUEST large value of 4\d{4} bytes came back$/, STEP_MS);
    await guest.until(/^GUEST large is deleted$/, STEP_MS);
    await guest.until(/^GUEST sdc:uuid cannot be put$/, STEP_MS);
  });

  it('is answered on a line that noise and a killed client were on', async () => {
    await guest.until(new RegExp(`^GUEST after noise ${TOKEN}$`), STEP_MS);
    const [, from, to] = await guest.until(/^GUEST noise from ([\d.]+) to ([\d.]+) s$/, STEP_MS);
    assert(Number(to) - Number(from) < NOISE_S, `from ${from} to ${to} s`);
    connection = portConnections(zoneroot);
    assert.strictEqual(connection.length, 1);
  });

  it('reboots itself and finds its data again, on the same connection', async () => {
    await guest.until(/^GUEST boot 2 answered/, BOOT_MS);
    await guest.until(/^GUEST waits for the host to reboot it$/, STEP_MS);
    const all = guest.lines();
    const second = all.slice(all.findIndex((line) => line.startsWith('GUEST boot 2')));
    assert(second.includes(`GUEST token ${TOKEN}`), second.join('\n'));
    assert(second.includes(`GUEST lines ${digestOf(`${LINES}\n`)}`), second.join('\n'));
    assert.deepStrictEqual(portConnections(zoneroot), connection);
  });

  it('is connected to within a second of being rebooted by the host, and has its data', async () => {
    await node?.ok(['reboot', UUID]);
    await eventually(() => portConnections(zoneroot).length === 1, 'connection', RECONNECT_MS);
    assert.notDeepStrictEqual(portConnections(zoneroot), connection);
    await guest.until(/^GUEST boot 3 answered/, BOOT_MS);
    await guest.until(new RegExp(`^GUEST token ${TOKEN}$`), STEP_MS);
    const [, keys] = await guest.until(/^GUEST keys (.*)$/, STEP_MS);
    const left = [...GUEST_VM_KEYS, 'boots', 'lines'].sort();
    assert.deepStrictEqual(keys?.trim().split(' '), left);
  });

  it('powers off, and its port has no connection any more', async () => {
    await guest.until(/^GUEST powers off$/, STEP_MS);
    const halted = async () =>
      ((await node?.ok(['ls', '--json'])) ?? '').includes('"zone_state": "installed"');
    await eventually(halted, 'the halt of the zone', STEP_MS);
    assert.deepStrictEqual(portConnections(zoneroot), []);
  });
});

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
