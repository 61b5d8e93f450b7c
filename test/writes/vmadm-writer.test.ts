import assert from 'node:assert';
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Change, ChangeResult } from '../../src/metadata/vm-data';
import { ConfigFiles } from '../../src/vm/config-files';
import { VmadmWriter } from '../../src/writes/vmadm-writer';
import { Writer } from '../../src/writes/writer';
import { eventually } from '../support/eventually';
import { logRecords, type LogRecords } from '../support/log-records';
import { tempDir, type TempDir } from '../support/temp-dir';
import { METADATA_LIMITS } from '../support/writer-fixture';

const set = (key: string, value: string): Change => ({ kind: 'set', map: 'customer', key, value });
const STORED = { kind: 'stored' };

describe('VmadmWriter', () => {
  let dir: TempDir;
  let logs: LogRecords;
  let writer: Writer;

  beforeEach(() => {
    dir = tempDir();
    logs = logRecords();
  });

  afterEach(async () => {
    await writer.stop();
    dir.remove();
  });

  /** A program in vmadm's place that keeps arguments and payload of each run, and then does `then`. */
  const install = (then: string, answerMs?: number): void => {
    const vmadm = join(dir.path, 'vmadm');
    const script = `#!/bin/sh\n{ echo "$*"; cat; echo; } >> ${dir.path}/runs\n${then}\n`;
    fs.writeFileSync(vmadm, script, { mode: 0o755 });
    writer = new Writer(
      new VmadmWriter(vmadm, METADATA_LIMITS, new ConfigFiles()),
      undefined,
      answerMs,
    );
  };
  const runs = (): string[] => {
    try {
      return fs.readFileSync(join(dir.path, 'runs'), 'utf8').trim().split('\n');
    } catch {
      return [];
    }
  };
  const ask = (change: Change, zonename = 'z'): Promise<ChangeResult> => {
    const log = logs.zoneLog(zonename);
    return writer.change({ zonename, uuid: 'the-uuid', directory: dir.path, log }, change);
  };
  const fileWith = (map: object): void => {
    const text = JSON.stringify({ customer_metadata: map, internal_metadata: { root_pw: 'old' } });
    fs.writeFileSync(join(dir.path, 'metadata.json'), text);
  };

  it('puts waiting changes into one payload on stdin', async () => {
    install('');
    fileWith({ a: '1', gone: 'x' });
    const results = await Promise.all([
      ask(set('a', '2')),
      ask({ kind: 'remove', map: 'customer', key: 'gone' }),
      ask({ kind: 'set', map: 'internal', key: 'root_pw', value: 'new' }),
    ]);
    assert.deepStrictEqual(results, [STORED, STORED, STORED]);
    const [args, payload = ''] = runs();
    assert.strictEqual(args, 'update the-uuid');
    assert.deepStrictEqual(JSON.parse(payload), {
      set_customer_metadata: { a: '2' },
      remove_customer_metadata: ['gone'],
      set_internal_metadata: { root_pw: 'new' },
    });
  });

  it('runs nothing where nothing changes', async () => {
    install('');
    fileWith({ a: '1' });
    assert.deepStrictEqual(await ask(set('a', '1')), STORED);
    assert.deepStrictEqual(runs(), []);
  });

  it('answers a failure with a fixed text, and logs its exit code but no value', async () => {
    install('echo "bad hunter2" >&2; exit 1');
    fileWith({});
    assert.deepStrictEqual(await ask(set('a', 'hunter2')), {
      kind: 'failed',
      text: 'Could not update metadata.',
    });
    assert.match(logs.text(), /EXIT_1/);
    assert.doesNotMatch(logs.text(), /hunter2/);
  });

  it('answers in time without ending the update, which a repetition joins', async () => {
    install(`while [ ! -e ${dir.path}/go ]; do sleep 0.05; done`, 300);
    fileWith({});
    const text = 'Could not update metadata: timed out.';
    assert.deepStrictEqual(await ask(set('a', '1')), { kind: 'failed', text });
    const again = ask(set('a', '1'));
    fs.writeFileSync(join(dir.path, 'go'), '');
    assert.deepStrictEqual(await again, STORED);
    await eventually(() => writer.status().inProgress.length === 0);
    assert.strictEqual(runs().length, 2, 'one update: its arguments and its payload');
  });

  it('runs updates of many VMs at once, 16 at most', async () => {
    const on = join(dir.path, 'on');
    fs.mkdirSync(on);
    install(`touch ${on}/$$; ls ${on} | wc -l >> ${dir.path}/counts; sleep 0.2; rm ${on}/$$`);
    fileWith({});
    const zones = Array.from({ length: 40 }, (_, index) => `z${index}`);
    const results = await Promise.all(zones.map((zonename) => ask(set('a', '1'), zonename)));
    assert(results.every(({ kind }) => kind === 'stored'));
    const counts = fs.readFileSync(join(dir.path, 'counts'), 'utf8').trim().split('\n').map(Number);
    assert.strictEqual(counts.length, zones.length);
    const most = Math.max(...counts);
    assert(most > 1 && most <= 16, `${most} at once`);
  });
});
