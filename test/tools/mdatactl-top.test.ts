/*
 * `mdatactl top`: its screen as a pure function, and the program on a real terminal.
 */
import assert from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { ZoneRow } from '../../src/admin/status';
import { isJsonObject } from '../../src/metadata/vm-data';
import { plain } from '../../tools/screen';
import { pressed, ratesOf, topScreen, type View } from '../../tools/mdatactl/top';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { needs } from '../support/pending';
import { runProgram, SimNode, whyNoNode } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
const SCREEN = { width: 80, paint: plain, terminal: true };
const VIEW: View = { sort: 'requests', filter: '', paused: false, typing: false };

function row(n: number, more: Partial<ZoneRow> = {}): ZoneRow {
  return {
    zonename: zonenameOf(n),
    alias: `zone${n}`,
    brand: 'joyent',
    state: 'running',
    health: 'ok',
    reasons: [],
    kind: 'socket',
    link: 'listening',
    connections: 0,
    mount: null,
    requests: 0,
    errors: 0,
    refusals: 0,
    bytesReceived: 0,
    bytesSent: 0,
    elapsedMs: 0,
    reconnects: null,
    lastRequest: null,
    ...more,
  };
}

function aliases(lines: readonly string[]): string[] {
  return lines.slice(3).map((line) => line.split(/ +/)[1] ?? '');
}

describe('the screen of mdatactl top', () => {
  const before = [row(1), row(2), row(3)];
  const after = [
    row(1, { requests: 20, elapsedMs: 20, bytesSent: 100 }),
    row(2, { requests: 4, errors: 4, elapsedMs: 40, bytesSent: 10_000 }),
    row(3),
  ];
  const rates = ratesOf(before, after, 2);

  it('shows rates between two polls', () => {
    const [first, second, third] = rates;
    assert.deepStrictEqual(
      [first?.requestsPerSecond, first?.latencyMs, second?.errorsPerSecond, third?.latencyMs],
      [10, 1, 2, null],
    );
    assert.strictEqual(second?.bytesPerSecond, 5000);
  });

  it('counts from zero where the agent was restarted in between', () => {
    assert.strictEqual(ratesOf(after, [row(1, { requests: 6 })], 2)[0]?.requestsPerSecond, 3);
  });

  it('sorts by what was chosen', () => {
    const sorted = (sort: View['sort']): string[] =>
      aliases(topScreen(rates, { ...VIEW, sort }, SCREEN, 24));
    assert.deepStrictEqual(sorted('requests'), ['zone1', 'zone2', 'zone3']);
    assert.deepStrictEqual(sorted('errors'), ['zone2', 'zone1', 'zone3']);
    assert.deepStrictEqual(sorted('bytes'), ['zone2', 'zone1', 'zone3']);
    assert.deepStrictEqual(sorted('latency'), ['zone2', 'zone1', 'zone3']);
  });

  it('fits a terminal of 80 columns and its rows', () => {
    const many = Array.from({ length: 60 }, (_, n) =>
      row(n, {
        alias: `a-zone-with-a-long-alias-${n}`,
        brand: 'joyent-minimal',
        requests: n * 1e6,
      }),
    );
    const lines = topScreen(ratesOf([], many, 1), VIEW, SCREEN, 24);
    assert(lines.length <= 24);
    assert.deepStrictEqual(
      lines.filter((line) => line.length > 80),
      [],
    );
  });

  it('filters as one types, keeps the filter on Enter and clears it on Escape', () => {
    let view = VIEW;
    for (const key of ['f', 'z', 'o', 'x', '\u007f', 'n', 'e', '3']) {
      view = pressed(view, key) ?? VIEW;
    }
    assert.deepStrictEqual(view, { ...VIEW, typing: true, filter: 'zone3' });
    const kept = pressed(view, '\r') ?? VIEW;
    assert.deepStrictEqual(kept, { ...VIEW, filter: 'zone3' });
    assert.deepStrictEqual(aliases(topScreen(rates, kept, SCREEN, 24)), ['zone3']);
    assert.deepStrictEqual(pressed(view, '\u001b'), VIEW);
  });

  it('quits on q and on Ctrl-C, but reads q as a letter while typing the filter', () => {
    assert.strictEqual(pressed(VIEW, 'q'), null);
    assert.strictEqual(pressed({ ...VIEW, typing: true }, '\u0003'), null);
    assert.strictEqual(pressed({ ...VIEW, typing: true }, 'q')?.filter, 'q');
  });
});

describe('mdatactl top', function () {
  this.timeout(60_000);
  let node: SimNode | null = null;
  let agent: AgentProcess | null = null;
  let root = '';

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: [vmObject(zonenameOf(1), { alias: 'web0' })] });
    root = node.root;
    agent = await AgentProcess.start(root);
  });

  after(async () => {
    await agent?.stop();
    await node?.stop();
  });

  it('prints one screen without a terminal', async () => {
    const argv = [process.execPath, MDATACTL, '--root', root, 'top', '--interval', '0.1'];
    const { status, stdout } = await runProgram(argv);
    assert.strictEqual(status, 0);
    assert.match(stdout, /^1 zone, 0\.0 requests\/s, .*\nZONE +ALIAS .*\n\S+ +web0 /);
    assert(!stdout.includes('\u001b'));
    assert(stdout.includes(zonenameOf(1)), 'whole in a pipe');
    const chosen = await runProgram([...argv, '-o', 'alias,requests']);
    assert.match(chosen.stdout, /^ALIAS +REQ\/S\nweb0 +0\.0$/m);
    const json: unknown = JSON.parse((await runProgram([...argv, '--json'])).stdout);
    assert(isJsonObject(json) && Array.isArray(json.zones));
    const [zone] = json.zones as unknown[];
    assert(isJsonObject(zone));
    assert.deepStrictEqual([zone.alias, zone.requestsPerSecond], ['web0', 0]);
  });

  it('draws on a terminal, sorts on a key, and leaves it as it was on q', async () => {
    const command = `stty rows 20 cols 80; ${process.execPath} ${MDATACTL} --root ${root} top --interval 0.1; stty -a; echo left`;
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      env: { ...process.env, TERM: 'xterm' },
    });
    let seen = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (seen += text));
    await eventually(() => seen.includes('web0'));
    assert(seen.includes('\u001b[?1049h'), 'takes the alternate screen');
    child.stdin.write('b');
    await eventually(() => seen.includes('by bytes'));
    child.stdin.write('q');
    const [status] = (await once(child, 'exit')) as [number];
    assert.strictEqual(status, 0);
    assert(seen.includes('\u001b[?1049l'), 'gives it back');
    assert.match(seen, /[^-]icanon/, 'the terminal is in its ordinary mode again');
    assert.match(seen, /left\r?\n$/);
  });

  it('says at once that the agent is gone', async () => {
    const argv = [process.execPath, MDATACTL, '--root', `${root}/none`, 'top'];
    const { status, stderr } = await runProgram(argv);
    assert.strictEqual(status, 2);
    assert.match(stderr, /mdatad is not there/);
  });
});
