/*
 * A canary in every place that metadata can be in, and every fault that could carry one out: none may be
 * in the log at its most talkative, on stderr, or in anything that operators see.
 */
import assert from 'node:assert';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { askAdmin } from '../support/admin';
import { CANARY, canary, traces } from '../support/canaries';
import { base64, frame, frameOfBody, putFrame } from '../support/frames';
import { AgentProcess } from '../support/guest-agent';
import { eventually } from '../support/eventually';
import { LyingVminfod } from '../support/lying-vminfod';
import { osZone, SimulatedNode, uuidOf } from '../support/simulated-node';
import { runProgram } from '../support/simcn';

const MIB = 1024 * 1024;

const METADATA = {
  customer_metadata: { 'user-script': canary(), 'user-data': canary() },
  internal_metadata: {
    root_pw: canary(),
    'operator-script': canary(),
    hidden: canary(),
    'docker:env': canary(),
  },
  internal_metadata_namespaces: ['docker'],
};
const SECRETS = {
  vnc_password: canary(),
  spice_password: canary(),
  spice_opts: canary(),
  qemu_extra_opts: canary(),
  bhyve_extra_opts: canary(),
};

function isWhole(json: string): boolean {
  try {
    JSON.parse(json);
    return true;
  } catch {
    // Still being written.
    return false;
  }
}

describe('secrets', function () {
  this.timeout(120_000);
  let cn: SimulatedNode;
  let vminfod: LyingVminfod;
  const said: string[] = [];
  const refused: string[] = [];
  const dumps = mkdtempSync(join(tmpdir(), 'dumps-'));
  const DUMPING = [
    'env',
    `NODE_OPTIONS=--report-on-signal --report-directory=${dumps} --heapsnapshot-signal=SIGUSR1 --diagnostic-dir=${dumps}`,
  ];

  before(async function () {
    const vms = [0, 1].map((index) => osZone(index, METADATA));
    cn = await SimulatedNode.start(this, { vms });
    await cn.agent.stop();
    vminfod = new LyingVminfod(`${cn.root}/var/run/lying.sock`);
    for (const index of [0, 1]) {
      vminfod.vms.set(uuidOf(index), {
        ...osZone(index, METADATA),
        ...SECRETS,
        zonename: uuidOf(index),
      });
    }
    await vminfod.start();
    cn.agent = await AgentProcess.start(cn.root, flags('file'), DUMPING);
  });

  after(async () => {
    await cn.stop();
    await vminfod.stop();
    rmSync(dumps, { recursive: true });
  });

  /** What the agent's process writes of itself on the signal. */
  async function dump(signal: NodeJS.Signals, name: RegExp): Promise<string> {
    process.kill(cn.agent.pid, signal);
    const written = (): string => {
      const file = readdirSync(dumps).find((each) => name.test(each));
      return file === undefined ? '' : readFileSync(join(dumps, file), 'utf8');
    };
    await eventually(() => /[}\]]\s*$/.test(written()) && isWhole(written()), 'a dump', 30_000);
    return written();
  }

  function flags(writer: 'file' | 'vmadm'): string[] {
    const path = `${cn.root}/writer-${writer}.json`;
    writeFileSync(path, JSON.stringify({ writer }));
    return [...vminfod.flags, '--log-level', 'trace', '--config', path];
  }

  /** All that the agent says of itself. */
  async function listen(): Promise<void> {
    const paths = [
      '/healthz',
      '/status',
      '/zones',
      `/zones/${uuidOf(0)}`,
      '/doctor',
      `/doctor/${uuidOf(0)}`,
      `/keys/${uuidOf(0)}`,
      '/tail?live=no&last=1000',
      '/metrics',
      '/metrics?format=json',
      '/kang/snapshot',
      '/datasets',
    ];
    for (const path of paths) {
      const { status, text } = await askAdmin(cn.root, path);
      assert(status === 200 || status === 503, `${path}: ${status}`);
      said.push(text);
    }
  }

  async function send(...lines: (Buffer | string)[]): Promise<void> {
    const socket = connect(cn.socket(0));
    socket.on('error', () => undefined);
    socket.resume();
    await once(socket, 'connect');
    for (const line of lines) {
      socket.write(line);
    }
    await delay(100);
    socket.destroy();
  }

  it('are read and written', async () => {
    await eventually(() => cn.answers(0), 'the agent serves');
    const session = await cn.open(0);
    for (const key of [
      'user-script',
      'root_pw',
      'docker:env',
      'sdc:operator-script',
      'sdc:vnc_password',
    ]) {
      await session.get(key);
    }
    for (const key of ['k', 'k_pw', 'sdc:k', 'docker:k', 'operator-script', '__proto__', 'a\nb']) {
      const value = canary();
      if ((await session.put(key, value)).code === 'FAILURE') {
        refused.push(value);
      }
    }
    assert(refused.length > 2);
    await session.keys();
    await listen();
    session.close();
  });

  it('are in no report of the process, which a crash would leave', async () => {
    const report = await dump('SIGUSR2', /^report\..*\.json$/);
    assert.match(report, /"javascriptStack"/);
    assert.deepStrictEqual(traces(report), []);
  });

  it('are in its heap only where a guest may read them: none of what was refused, or of no zone', async () => {
    const heap = await dump('SIGUSR1', /\.heapsnapshot$/);
    for (const secret of [...Object.values(SECRETS), ...refused]) {
      assert(!heap.includes(`"${secret}"`), `${secret} is kept`);
    }
    assert(heap.includes(`"${uuidOf(0)}"`), 'a heap snapshot holds it');
  });

  it('are sent in lines that are not requests', async () => {
    const value = canary();
    await send(
      `PUT ${value}\n`,
      `GET ${'x'.repeat(300)}\n`,
      `${value}\n`,
      `V2 ${value}\n`,
      `V2 10 00000000 ${base64(Buffer.from(value))}\n`,
      putFrame('00000001', 'k', value).subarray(0, -6),
      '\n',
      frame('00000002', 'PUT', value),
      frame('00000003', 'PUT', `${base64(Buffer.from('k'))} ${value} ${value}`),
      frame('00000004', 'PUT', `!${value} ${base64(Buffer.from(value))}`),
      frame('00000005', 'DELETE', '\n'),
      `${frameOfBody(`00000006 PUT ${base64(Buffer.from(value))}=`).toString('latin1')}\n`,
      `${frameOfBody(`00000007 ${base64(Buffer.from(value)).replace(/=/g, '')}`).toString('latin1')}\n`,
    );
    await send(`V2 9999999 00000000 00000008 PUT ${value.repeat((3 * MIB) / value.length)}`, '\n');
    await listen();
  });

  it('are in files that cannot be understood', async () => {
    const session = await cn.open(0);
    for (const file of ['metadata.json', 'tags.json', 'routes.json']) {
      for (const text of [canary(), `{"customer_metadata":{"k":"${canary()}"`, `["${canary()}"]`]) {
        cn.replaceConfig(0, file, text);
        await session.get('user-script');
        await session.get('sdc:tags.role');
        await session.get('sdc:routes');
        await session.put('k', canary());
      }
    }
    await listen();
    cn.replaceConfig(0, 'metadata.json', JSON.stringify(METADATA));
    session.close();
  });

  it('are sent by a vminfod that sends wrong data', async () => {
    for (const line of [
      canary(),
      `{"type":"modify","vm":{"zonename":"../${canary()}"}}`,
      `{"${canary()}`,
    ]) {
      vminfod.send(Buffer.from(`${line}\n`));
      await delay(200);
    }
    vminfod.readyLine = Buffer.from(`{"type":"ready","vms":"[{\\"k\\":\\"${canary()}"}\n`);
    await vminfod.stop();
    await vminfod.start();
    await delay(500);
    await listen();
    vminfod.readyLine = null;
    await vminfod.stop();
    await vminfod.start();
    await eventually(() => cn.answers(0), 'the agent follows again', 15_000);
  });

  it('are in what vmadm is given, and in what it says when it fails', async () => {
    await cn.agent.stop();
    said.push(JSON.stringify(cn.agent.records));
    const vmadm = cn.node.path('/usr/sbin/vmadm');
    const before = readFileSync(vmadm);
    writeFileSync(
      vmadm,
      '#!/bin/sh\npayload=$(cat)\necho "bad: $payload $*" >&2\necho "$payload"\nexit 1\n',
    );
    chmodSync(vmadm, 0o755);
    cn.agent = await AgentProcess.start(cn.root, flags('vmadm'));
    await eventually(() => cn.answers(0), 'the agent serves');
    const session = await cn.open(0);
    const put = await session.put('k', canary());
    assert.strictEqual(put.code, 'FAILURE');
    assert.deepStrictEqual(traces(put.text), []);
    await listen();
    writeFileSync(vmadm, before);
    session.close();
  });

  it('are nowhere: not in the log, on stderr, or in anything that operators see', async () => {
    await listen();
    said.push(JSON.stringify(cn.agent.records));
    assert(said.length > 40);
    assert(JSON.stringify(cn.agent.records).includes('"level":20'), 'the log is talkative');
    for (const text of said) {
      const found = traces(text);
      const at = text.indexOf(found[0] ?? CANARY);
      assert.deepStrictEqual(found, [], text.slice(Math.max(0, at - 300), at + 100));
    }
  });

  it('would be found if they were there', async () => {
    for (const lead of ['', 'x', 'xx']) {
      const encoded = base64(Buffer.from(`${lead}${CANARY} and more`));
      assert.notDeepStrictEqual(traces(`"${encoded}"`), [], lead);
    }
    const { stdout } = await runProgram(['echo', CANARY]);
    assert.deepStrictEqual(traces(stdout), [CANARY]);
    assert.notDeepStrictEqual(traces(JSON.stringify(Buffer.from(CANARY))), []);
  });
});
