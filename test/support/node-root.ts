/*
 * A SmartOS node as far as the install scripts see it: a root folder, and fakes of SMF's commands in the
 * PATH (fake-smf.ts).
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Service, SmfState } from './fake-smf';
import { keepSaid } from './said';

export const PLATFORM_AGENT = 'svc:/system/smartdc/metadata:default';
export const MDATAD = 'svc:/site/mdatad:default';
export const TAKEOVER = 'svc:/site/mdatad-takeover:default';

const COMMANDS = ['svcadm', 'svccfg', 'svcs', 'svcprop', 'zonename'];

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class NodeRoot {
  readonly root: string;
  private readonly smf: string;
  private readonly path: string;

  private readonly base = mkdtempSync(join(tmpdir(), 'mdf-'));

  /** @param options.root a root that is there already, and stays; left out: an empty one */
  constructor(options: { readonly zonename?: string; readonly root?: string } = {}) {
    const { zonename = 'global', root = join(this.base, 'r') } = options;
    this.root = root;
    this.smf = join(this.base, 'smf');
    const bin = join(this.base, 'bin');
    this.path = `${bin}:${process.env.PATH ?? ''}`;
    for (const folder of [this.root, this.smf, bin]) {
      mkdirSync(folder, { recursive: true });
    }
    const program = join(__dirname, 'fake-smf.js');
    for (const name of COMMANDS) {
      const script = `#!/bin/sh\nexec '${process.execPath}' '${program}' '${this.smf}' ${name} "$@"\n`;
      writeFileSync(join(bin, name), script);
      chmodSync(join(bin, name), 0o755);
    }
    this.fake('uname', 'case $1 in -s) echo SunOS ;; *) echo joyent_20260301T000000Z ;; esac', bin);
    this.write({ root: this.root, zonename, services: platformServices() });
    writeFileSync(join(this.smf, 'calls'), '');
  }

  /** Runs a script of the package with the fakes in front of the PATH. */
  run(script: string, args: readonly string[], shell?: string): Outcome {
    const [file, ...rest] = shell === undefined ? [script] : [shell, script];
    const outcome = spawnSync(file, [...rest, ...args], {
      encoding: 'utf8',
      env: { PATH: this.path, MDATAD_START_SECONDS: '10' },
      timeout: 60_000,
    });
    keepSaid('smf', `${outcome.stdout}${outcome.stderr}`);
    return outcome;
  }

  /** Puts one more command in front of the PATH. */
  fake(name: string, body: string, bin = this.path.split(':')[0] ?? ''): void {
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(bin, name), 0o755);
  }

  calls(): string[] {
    return readFileSync(join(this.smf, 'calls'), 'utf8').trimEnd().split('\n');
  }

  forgetCalls(): void {
    writeFileSync(join(this.smf, 'calls'), '');
  }

  state(fmri: string): Service['state'] | undefined {
    return this.read().services[fmri]?.state;
  }

  /** Below the root. */
  at(path: string): string {
    return join(this.root, path);
  }

  daemonPid(): number {
    return Number(readFileSync(this.at('var/run/mdatad/mdatad.pid'), 'utf8'));
  }

  daemonLog(): string {
    return readFileSync(this.logPath, 'utf8');
  }

  /** The RAM disk is gone, the platform's services are as they were, /opt/custom/smf is imported. */
  reboot(): void {
    this.killDaemon();
    rmSync(this.at('var/run'), { recursive: true, force: true });
    this.write({ ...this.read(), services: platformServices() });
    const manifests = ['mdatad.xml', 'mdatad-takeover.xml'];
    for (const name of manifests) {
      const { status, stderr } = this.run('svccfg', ['import', this.at(`opt/custom/smf/${name}`)]);
      if (status !== 0) {
        throw new Error(stderr);
      }
    }
  }

  remove(): void {
    this.killDaemon();
    if (existsSync(this.logPath)) {
      keepSaid('smf', this.daemonLog());
    }
    rmSync(this.base, { recursive: true, force: true });
  }

  private get logPath(): string {
    return this.at('var/svc/log/site-mdatad:default.log');
  }

  private killDaemon(): void {
    try {
      process.kill(this.daemonPid(), 'SIGKILL');
    } catch {
      // Never started, or gone already.
    }
  }

  private read(): SmfState {
    return JSON.parse(readFileSync(join(this.smf, 'state.json'), 'utf8')) as SmfState;
  }

  private write(state: SmfState): void {
    writeFileSync(join(this.smf, 'state.json'), JSON.stringify(state));
  }
}

/** As a node comes up: all online, the platform's own agent too. */
function platformServices(): Record<string, Service> {
  const names = [
    'svc:/system/filesystem/local:default',
    'svc:/network/loopback:default',
    'svc:/system/smartdc/vminfod:default',
    PLATFORM_AGENT,
  ];
  const online = (): Service => ({ enabled: true, state: 'online', manifest: null });
  return Object.fromEntries(names.map((name) => [name, online()]));
}
