/*
 * A SmartOS node as far as the install scripts see it: a root directory, and fakes of SMF's commands in the
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
import { dependency, method } from './fake-smf';
import {
  everyProcessOf,
  kill,
  partsOf,
  type Groups,
  type Service,
  type SmfState,
  type State,
} from './fake-startd';
import { keepSaid } from './said';

export const PLATFORM_AGENT = 'svc:/system/smartdc/metadata:default';
export const MDATAD = 'svc:/site/mdatad:default';
export const TAKEOVER = 'svc:/site/mdatad-takeover:default';
export const STAND_IN = 'svc:/system/smartdc/metadata:stand-in';
export const ZONES = 'svc:/system/zones:default';

const COMMANDS = ['svcadm', 'svccfg', 'svcs', 'svcprop', 'zonename', 'startd'];

/** Runs a command in a contract of its own and ends when that command does: all that ctrun -l child is here. */
const CTRUN = `[ "$1 $2" = '-l child' ] || exit 2
shift 2
env "FAKE_CONTRACT=$FAKE_CONTRACT.$$" "$@"
code=$?
[ $code -le 128 ] || code=123
exit $code`;

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
    for (const directory of [this.root, this.smf, bin]) {
      mkdirSync(directory, { recursive: true });
    }
    const program = join(__dirname, 'fake-smf.js');
    for (const name of COMMANDS) {
      const script = `#!/bin/sh\nexec '${process.execPath}' '${program}' '${this.smf}' ${name} "$@"\n`;
      writeFileSync(join(bin, name), script);
      chmodSync(join(bin, name), 0o755);
    }
    this.fake('ctrun', CTRUN, bin);
    // Of the arguments it shows 80 bytes, as on the platform.
    this.fake('ps', '/usr/bin/ps "$@" | cut -c 1-80', bin);
    this.fake('uname', 'case $1 in -s) echo SunOS ;; *) echo joyent_20260301T000000Z ;; esac', bin);
    const services = platformServices('online');
    this.write({ root: this.root, zonename, services, order: [], contracts: 0 });
    this.forgetCalls();
    writeFileSync(join(this.smf, 'history'), '');
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

  state(fmri: string): State | undefined {
    const [service, instance = ''] = partsOf(fmri);
    return this.read().services[service]?.instances[instance]?.state;
  }

  /** The property groups of a service, without its instances. */
  groups(service: string): Groups {
    return this.read().services[service]?.groups ?? {};
  }

  /** Changes of states since the node came up, each `FMRI STATE`. */
  history(): string[] {
    return readFileSync(join(this.smf, 'history'), 'utf8').trimEnd().split('\n');
  }

  /** A process of the node ends: with a core, killed, or without a trace. */
  processEnds(pid: number, how: 'core' | 'signal'): void {
    this.run('startd', [how, String(pid)]);
  }

  /** startd checks the contracts of its services. */
  watchContracts(): void {
    this.run('startd', ['check']);
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

  /**
   * The RAM disk is gone, and the platform's services come up as its image has them; the service
   * manifest-import imports /opt/custom/smf.
   *
   * @param order which of several services that could start comes first
   */
  reboot(order: readonly string[] = []): void {
    this.killProcesses();
    rmSync(this.at('var/run'), { recursive: true, force: true });
    this.write({ ...this.read(), services: platformServices('offline'), order });
    writeFileSync(join(this.smf, 'history'), '');
    this.run('startd', ['settle']);
  }

  remove(): void {
    this.killProcesses();
    if (existsSync(this.logPath)) {
      keepSaid('smf', this.daemonLog());
    }
    rmSync(this.base, { recursive: true, force: true });
  }

  private get logPath(): string {
    return this.at('var/svc/log/site-mdatad:default.log');
  }

  private killProcesses(): void {
    for (const pid of everyProcessOf(this.smf)) {
      kill(pid, 'SIGKILL');
    }
  }

  private read(): SmfState {
    return JSON.parse(readFileSync(join(this.smf, 'state.json'), 'utf8')) as SmfState;
  }

  private write(state: SmfState): void {
    writeFileSync(join(this.smf, 'state.json'), JSON.stringify(state));
  }
}

/** The platform's services that have to do with zones and metadata, each with what it depends on. */
function platformServices(state: 'online' | 'offline'): Record<string, Service> {
  const [filesystem, vminfod] = [
    'svc:/system/filesystem/local',
    'svc:/system/smartdc/vminfod:default',
  ];
  const server = 'svc:/milestone/multi-user-server';
  const needs = (...fmris: string[]): Groups =>
    Object.fromEntries(
      fmris.map((fmri) => [
        partsOf(fmri)[0].replace(/.*\//, ''),
        dependency('require_all', 'none', [fmri]),
      ]),
    );
  const definitions: Record<string, Groups> = {
    'system/filesystem/local': {},
    'network/loopback': {},
    'network/varpd': needs(filesystem),
    'system/manifest-import': { start: method('/lib/svc/method/manifest-import') },
    // The milestone wants manifest-import by way of others (single-user.xml).
    'milestone/multi-user-server': needs(filesystem, 'svc:/system/manifest-import'),
    'system/smartdc/vminfod': needs(filesystem),
    'system/smartdc/metadata': {
      ...needs(filesystem, vminfod),
      start: method('/usr/vm/smf/system-metadata %m'),
      stop: method(':true'),
    },
    'system/zones': {
      ...needs(server, 'svc:/network/varpd', 'svc:/system/smartdc/metadata'),
      start: method('/lib/svc/method/svc-zones %m', 0),
      startd: { type: 'framework', properties: transient() },
    },
  };
  return Object.fromEntries(
    Object.entries(definitions).map(([name, groups]) => [
      name,
      {
        groups,
        lastImport: groups,
        instances: {
          default: { groups: {}, running: groups, enabled: true, state, contract: 0 },
        },
      },
    ]),
  );
}

function transient(): Groups[string]['properties'] {
  return { duration: { type: 'astring', values: ['transient'] } };
}
