/*
 * `mdatactl keys` and the options of `mdatactl tail`, on a simulated node with a real agent.
 */
import assert from 'node:assert';
import { join } from 'node:path';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';
import { askAdmin } from '../support/admin';
import { traces } from '../support/canaries';
import { AgentProcess } from '../support/guest-agent';
import { needs } from '../support/pending';
import { runProgram, SimNode, whyNoNode, type Result } from '../support/simcn';
import { vmObject, zonenameOf } from '../support/vm-objects';
import { since } from '../../tools/mdatactl/options';

const MDATACTL = join(__dirname, '..', '..', 'tools', 'mdatactl', 'main.js');
const ZONE = zonenameOf(1);
const BARE_ZONE = zonenameOf(2);
const SECRET = 'Hae6-planted-secret';
const VMS = [
  vmObject(ZONE, {
    alias: 'web0',
    customer_metadata: {
      plain: SECRET,
      snow: '\u2603\n',
      empty: '',
      'odd\u001bname': SECRET,
      number: 12,
    },
    internal_metadata: { 'docker:cmd': '["sh"]', root_pw: SECRET },
  }),
  vmObject(BARE_ZONE, { alias: 'bare' }),
];

describe('mdatactl keys and tail', function () {
  this.timeout(60_000);
  let node: SimNode;
  let agent: AgentProcess;

  before(async function () {
    needs(this, whyNoNode());
    node = await SimNode.start({ vms: VMS });
    agent = await AgentProcess.start(node.root);
  });

  after(async () => {
    // Undefined where the suite was skipped.
    await (agent as AgentProcess | undefined)?.stop();
    await (node as SimNode | undefined)?.stop();
  });

  function ctl(...argv: string[]): Promise<Result> {
    return runProgram([process.execPath, MDATACTL, '--root', node.root, ...argv]);
  }

  describe('keys', () => {
    it('lists names and lengths of both maps, and no value', async () => {
      const { status, stdout } = await ctl('keys', 'web0', '-H', '-p');
      assert.strictEqual(status, 0);
      const lines = stdout.trimEnd().split('\n');
      for (const [key, bytes, map] of [
        ['plain', SECRET.length, 'customer'],
        ['snow', 4, 'customer'],
        ['empty', 0, 'customer'],
        ['number', 2, 'customer'],
        ['docker\\:cmd', 6, 'internal'],
        ['root_pw', SECRET.length, 'internal'],
        ['odd\\\\u001bname', SECRET.length, 'customer'],
      ] as const) {
        assert(lines.includes(`${key}:${bytes}:${map}`), `${key} in ${stdout}`);
      }
      for (const path of [`/keys/${ZONE}`, `/keys/${BARE_ZONE}`]) {
        const { status: code, text } = await askAdmin(node.root, path);
        assert.strictEqual(code, 200);
        assert(!text.includes(SECRET));
        assert.deepStrictEqual(traces(text), []);
      }
    });

    it('takes the options of the other tables, and prints JSON', async () => {
      const sorted = await ctl('keys', ZONE, '-H', '-o', 'key', '-s', '-bytes,key');
      assert.match(sorted.stdout, /^plain\n[^]*empty\n$/m);
      const { stdout } = await ctl('keys', ZONE, '--json');
      const rows: unknown = JSON.parse(stdout);
      assert(Array.isArray(rows));
      assert(rows.some((row) => parseJsonObject(JSON.stringify(row))?.key === 'root_pw'));
      assert.strictEqual((await ctl('keys', ZONE, '-o', 'value')).status, 3);
    });

    it('names a zone that it does not know', async () => {
      const { status, stderr } = await ctl('keys', 'nosuch');
      assert.deepStrictEqual(
        [status, stderr.split('\n')[0]],
        [2, 'mdatactl: no such zone: nosuch'],
      );
    });
  });

  describe('tail', () => {
    const kept = async (...argv: string[]): Promise<JsonObject[]> => {
      const { status, stdout, stderr } = await ctl('tail', '--no-follow', '--json', ...argv);
      assert.deepStrictEqual([status, stderr], [0, '']);
      const lines = stdout.split('\n').filter((line) => line !== '');
      return lines.map((line) => parseJsonObject(line) ?? {});
    };

    it('begins with the last records, and ends after them without following', async () => {
      await ctl('get', ZONE, 'plain');
      const all = await kept('-n', '500');
      assert(all.some(({ msg }) => msg === 'ready'));
      assert.deepStrictEqual(await kept('-n', '1', 'web0'), [
        all.findLast(({ zonename }) => zonename === ZONE),
      ]);
      assert.deepStrictEqual(await kept(), []);
    });

    it('begins with the records since a time or a duration', async () => {
      const all = await kept('--since', '1d');
      assert(all.some(({ msg }) => msg === 'ready'));
      assert.deepStrictEqual(await kept('--since', '2999-01-01T00:00:00Z'), []);
      const { status, stderr } = await ctl('tail', '--since', 'yesterday');
      assert.strictEqual(status, 3);
      assert.match(stderr, /a duration \(90s, 5m, 2h, 1d\) or a time/);
    });

    it('shows only records of a level and above', async () => {
      assert.strictEqual((await ctl('log-level', 'info')).status, 0);
      const all = await kept('-n', '500');
      assert(all.some(({ level }) => Number(level) === 30));
      const grave = await kept('-n', '500', '--level', 'warn');
      assert(grave.every(({ level }) => Number(level) >= 40));
      assert.strictEqual((await ctl('tail', '--level', 'loud')).status, 3);
    });

    it('refuses parameters that it does not understand', async () => {
      for (const query of ['last=-1', 'last=x', 'since=now', 'level=loud']) {
        const { status, text } = await askAdmin(node.root, `/tail?live=no&${query}`);
        assert.strictEqual(status, 400, text);
      }
    });
  });
});

describe('a time on the command line', () => {
  it('is a duration before now, or ISO 8601', () => {
    const now = 1_000_000_000;
    assert.strictEqual(since('90s', now), now - 90_000);
    assert.strictEqual(since('5m', now), now - 300_000);
    assert.strictEqual(since('2h', now), now - 7_200_000);
    assert.strictEqual(since('1d', now), now - 86_400_000);
    assert.strictEqual(since('1970-01-01T00:00:01Z', now), 1000);
    for (const text of ['', '5', '5w', 'soon', '-5m']) {
      assert.throws(() => since(text, now), /a duration/);
    }
  });
});
