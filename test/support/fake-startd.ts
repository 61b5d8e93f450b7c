/*
 * startd(8) in small: starts and stops the services of a fake node as their dependencies want it, and watches
 * the contracts of their processes. Used by fake-smf.ts, which is what the scripts under test call.
 *
 * It decides as svc.startd does (usr/src/cmd/svc/startd/graph.c, dependency_satisfied and the functions it
 * calls; propagate_start, propagate_stop; restarter.c, contract_action): a dependency on a service is met by
 * any of its instances, an optional one waits for whatever can still come online, and a contract that holds
 * no process any more is a stop, whatever startd/ignore_error says. A process belongs to the contract that its
 * environment names: children inherit it, and the fake ctrun gives its child another one.
 */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export interface Property {
  readonly type: string;
  readonly values: readonly string[];
}

/** A property group. */
export interface Group {
  readonly type: string;
  readonly properties: Record<string, Property>;
}

export type Groups = Record<string, Group>;

export type State = 'disabled' | 'offline' | 'starting' | 'online' | 'maintenance';

export interface Instance {
  groups: Groups;
  /** What startd goes by: the groups as they were at the last refresh, the service's below its own. */
  running: Groups;
  enabled: boolean;
  state: State;
  /** Number of its primary contract; 0 when it has none. */
  contract: number;
}

export interface Service {
  groups: Groups;
  /** The service's groups as the last manifest had them. */
  lastImport: Groups;
  instances: Record<string, Instance>;
}

export interface SmfState {
  readonly root: string;
  readonly zonename: string;
  services: Record<string, Service>;
  /** Instances that come first when several could start; the others follow by name. */
  order: readonly string[];
  contracts: number;
}

/** A dependency is met, may still be, or never will be without an operator. */
type Verdict = 'met' | 'waiting' | 'never';

/** A stop propagates to dependents whose restart_on is at least this strict. */
const CAUSE = { none: 0, error: 1, restart: 2, refresh: 3 } as const;
type Cause = 'error' | 'restart';

/** A stop method that leaves a process behind is given this long, then the contract is killed. */
const STOP_SECONDS = 12;
const CONTRACT = 'FAKE_CONTRACT';
/** More passes than any chain of dependencies here is long. */
const MOST_PASSES = 30;

/** The methods that a fake node runs itself instead of a program: exec string to what it does. */
export type BuiltIn = ReadonlyMap<string, (startd: Startd) => void>;

export class Startd {
  state: SmfState;

  constructor(
    private readonly directory: string,
    private readonly builtIn: BuiltIn = new Map(),
  ) {
    this.state = this.load();
  }

  save(): void {
    writeFileSync(join(this.directory, 'state.json'), JSON.stringify(this.state));
  }

  find(fmri: string): Instance | undefined {
    const [service, instance = ''] = partsOf(fmri);
    return this.state.services[service]?.instances[instance];
  }

  /** FMRIs of all instances, in the order in which they are looked at. */
  all(): string[] {
    const fmris = Object.entries(this.state.services).flatMap(([service, { instances }]) =>
      Object.keys(instances).map((name) => `svc:/${service}:${name}`),
    );
    const first = this.state.order.filter((fmri) => fmris.includes(fmri));
    return [...first, ...fmris.filter((fmri) => !first.includes(fmri)).sort()];
  }

  /** Takes the running snapshot: only now startd sees what was imported or set. */
  refresh(service: string, name: string): void {
    const entry = this.state.services[service];
    const instance = entry?.instances[name];
    if (entry !== undefined && instance !== undefined) {
      instance.running = { ...entry.groups, ...instance.groups };
    }
  }

  /** Starts and stops until every instance is where its settings and dependencies want it. */
  settle(): void {
    for (let pass = 0; pass < MOST_PASSES; pass++) {
      const before = this.states();
      for (const fmri of this.all()) {
        this.step(fmri);
      }
      if (this.states() === before) {
        return;
      }
    }
    throw new Error(`the services do not settle: ${this.states()}`);
  }

  /** Stops an instance for a fault or on request, with what depends on it; settle starts it again. */
  restart(fmri: string, cause: Cause): void {
    this.stop(fmri, cause);
    this.settle();
  }

  /** What startd makes of contracts that are empty by now. */
  watchContracts(): void {
    for (const fmri of this.all()) {
      const instance = this.find(fmri);
      if (instance?.state === 'online' && instance.contract !== 0) {
        if (this.members(instance.contract).length === 0) {
          this.restart(fmri, 'restart');
        }
      }
    }
  }

  /** A process of some contract dumped core or was killed from outside. */
  processDied(contract: string, how: 'core' | 'signal'): void {
    for (const fmri of this.all()) {
      const instance = this.find(fmri);
      if (instance?.state === 'online' && this.contractName(instance.contract) === contract) {
        const [ignored = ''] = instance.running.startd?.properties.ignore_error?.values ?? [];
        if (!ignored.split(',').includes(how)) {
          this.restart(fmri, 'error');
        }
      }
    }
  }

  private load(): SmfState {
    return JSON.parse(readFileSync(join(this.directory, 'state.json'), 'utf8')) as SmfState;
  }

  private states(): string {
    return this.all()
      .map((fmri) => `${fmri} ${this.find(fmri)?.state ?? ''}`)
      .join('\n');
  }

  private setState(fmri: string, state: State): void {
    const instance = this.find(fmri);
    if (instance !== undefined && instance.state !== state) {
      instance.state = state;
      appendFileSync(join(this.directory, 'history'), `${fmri} ${state}\n`);
    }
  }

  private step(fmri: string): void {
    const instance = this.find(fmri);
    if (instance === undefined || instance.state === 'starting') {
      return;
    }
    if (!instance.enabled) {
      this.stop(fmri, 'restart');
      // Where the stop method failed, only an operator goes on.
      if (this.find(fmri)?.state !== 'maintenance') {
        this.setState(fmri, 'disabled');
      }
      return;
    }
    if (instance.state === 'disabled') {
      this.setState(fmri, 'offline');
    }
    if (instance.state === 'offline' && this.dependenciesOf(instance) === 'met') {
      this.start(fmri, instance);
    }
  }

  private start(fmri: string, instance: Instance): void {
    this.setState(fmri, 'starting');
    const [duration = 'contract'] = instance.running.startd?.properties.duration?.values ?? [];
    if (duration === 'contract') {
      instance.contract = ++this.state.contracts;
    }
    const started = this.runMethod(fmri, 'start');
    this.setState(fmri, started ? 'online' : 'maintenance');
    if (!started) {
      this.killContract(this.find(fmri)?.contract ?? 0, 'SIGKILL');
      return;
    }
    for (const { dependent, grouping, restartOn } of this.dependentsOf(fmri)) {
      if (grouping === 'exclude_all' || CAUSE[restartOn] >= CAUSE.restart) {
        this.stop(dependent, 'restart');
      }
    }
  }

  private stop(fmri: string, cause: Cause): void {
    const instance = this.find(fmri);
    if (instance?.state !== 'online') {
      return;
    }
    const hasStopped = [1, 2, 3].some(() => this.runMethod(fmri, 'stop'));
    if (!hasStopped) {
      // Its processes are left alone (method_run in usr/src/cmd/svc/startd/method.c abandons the contract).
      this.setState(fmri, 'maintenance');
      return;
    }
    const { contract } = instance;
    this.awaitEmpty(contract);
    const stopped = this.find(fmri);
    if (stopped !== undefined) {
      stopped.contract = 0;
    }
    this.setState(fmri, 'offline');
    for (const { dependent, grouping, restartOn } of this.dependentsOf(fmri)) {
      if (grouping !== 'exclude_all' && CAUSE[restartOn] >= CAUSE[cause]) {
        this.stop(dependent, cause);
      }
    }
  }

  private runMethod(fmri: string, name: 'start' | 'stop'): boolean {
    const instance = this.find(fmri);
    const [exec = ':true'] = instance?.running[name]?.properties.exec?.values ?? [];
    const contract = instance?.contract ?? 0;
    const builtIn = this.builtIn.get(exec);
    if (builtIn !== undefined) {
      builtIn(this);
      return true;
    }
    // The platform's own methods are not on a fake node.
    if (exec === ':true' || /^\/(usr|lib)\//.test(exec)) {
      return true;
    }
    if (exec === ':kill') {
      this.killContract(contract, 'SIGTERM');
      return true;
    }
    const logs = join(this.state.root, 'var/svc/log');
    mkdirSync(logs, { recursive: true });
    const file = `${fmri.slice('svc:/'.length).replace(/\//g, '-')}.log`;
    const log = openSync(join(logs, file), 'a');
    const [program = '', ...args] = exec.split(' ');
    this.save();
    const { status } = spawnSync(join(this.state.root, program), args, {
      // The stop method runs in a contract of its own.
      env: {
        ...process.env,
        SMF_FMRI: fmri,
        [CONTRACT]: this.contractName(name === 'start' ? contract : 0),
      },
      stdio: ['ignore', log, log],
      timeout: 30_000,
    });
    closeSync(log);
    // The method may have called svcadm itself.
    this.state = this.load();
    return status === 0;
  }

  private contractName(contract: number): string {
    return `${this.directory}#${contract}`;
  }

  private members(contract: number): number[] {
    return contract === 0 ? [] : processesOf(this.contractName(contract));
  }

  private killContract(contract: number, signal: NodeJS.Signals): void {
    for (const pid of this.members(contract)) {
      kill(pid, signal);
    }
  }

  private awaitEmpty(contract: number): void {
    for (let waited = 0; this.members(contract).length > 0; waited += 0.05) {
      if (waited > STOP_SECONDS) {
        this.killContract(contract, 'SIGKILL');
      }
      spawnSync('sleep', ['0.05']);
    }
  }

  // --- dependencies ------------------------------------------------------------------------------

  private dependenciesOf(instance: Instance): Verdict {
    const groups = Object.values(instance.running).filter(({ type }) => type === 'dependency');
    return worst(groups.map((group) => this.groupVerdict(group)));
  }

  private groupVerdict({ properties }: Group): Verdict {
    const fmris = properties.entities?.values ?? [];
    const [grouping = ''] = properties.grouping?.values ?? [];
    switch (grouping) {
      case 'require_all':
        return worst(fmris.map((fmri) => this.entityVerdict(fmri)));
      case 'require_any':
        return best(fmris.map((fmri) => this.entityVerdict(fmri)));
      case 'optional_all':
        return worst(this.instancesOf(fmris).map((fmri) => this.optionalVerdict(fmri)));
      case 'exclude_all':
        return worst(this.instancesOf(fmris).map((fmri) => this.excludeVerdict(fmri)));
      default:
        throw new Error(`${grouping}: not a grouping`);
    }
  }

  /** A service is as good as the best of its instances; one without any never comes. */
  private entityVerdict(fmri: string): Verdict {
    return best(this.instancesOf([fmri]).map((instance) => this.instanceVerdict(instance)));
  }

  private instanceVerdict(fmri: string): Verdict {
    const instance = this.find(fmri);
    if (instance === undefined || instance.state === 'maintenance') {
      return 'never';
    }
    if (instance.state === 'online') {
      return 'met';
    }
    return instance.enabled && this.dependenciesOf(instance) !== 'never' ? 'waiting' : 'never';
  }

  private optionalVerdict(fmri: string): Verdict {
    return this.instanceVerdict(fmri) === 'waiting' ? 'waiting' : 'met';
  }

  private excludeVerdict(fmri: string): Verdict {
    const instance = this.find(fmri);
    switch (instance?.state) {
      case 'online':
        return instance.enabled ? 'never' : 'waiting';
      case 'offline':
      case 'starting':
        return 'waiting';
      default:
        return 'met';
    }
  }

  /** FMRIs of instances; a service's name stands for all that it has, and may have none. */
  private instancesOf(fmris: readonly string[]): string[] {
    return fmris.flatMap((fmri) => {
      const [service, instance] = partsOf(fmri);
      const names = Object.keys(this.state.services[service]?.instances ?? {});
      return instance === undefined ? names.map((name) => `svc:/${service}:${name}`) : [fmri];
    });
  }

  private dependentsOf(
    fmri: string,
  ): { dependent: string; grouping: string; restartOn: keyof typeof CAUSE }[] {
    return this.all().flatMap((dependent) =>
      Object.values(this.find(dependent)?.running ?? {})
        .filter(({ type }) => type === 'dependency')
        .filter(({ properties }) =>
          this.instancesOf(properties.entities?.values ?? []).includes(fmri),
        )
        .map(({ properties }) => ({
          dependent,
          grouping: properties.grouping?.values[0] ?? '',
          restartOn: (properties.restart_on?.values[0] ?? 'none') as keyof typeof CAUSE,
        })),
    );
  }
}

/** Service and instance of an FMRI. */
export function partsOf(fmri: string): readonly [service: string, instance: string | undefined] {
  const [service = '', instance] = fmri.replace(/^svc:\//, '').split(':');
  return [service, instance];
}

/** Of all the processes of this machine those that were started in this contract. */
export function processesOf(contract: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && contractOf(Number(name)) === contract)
    .map(Number);
}

/** The contract that a process lives in; undefined for one that is gone or was started outside. */
export function contractOf(pid: number): string | undefined {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    const found = environment.find((entry) => entry.startsWith(`${CONTRACT}=`));
    return found?.slice(CONTRACT.length + 1);
  } catch {
    // It ended meanwhile, or is not ours to look at.
    return undefined;
  }
}

/** A node's whole set of contracts: those of its services and those that ctrun made below them. */
export function everyProcessOf(directory: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => contractOf(pid)?.startsWith(`${directory}#`) === true);
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}

const RANK: readonly Verdict[] = ['never', 'waiting', 'met'];

function worst(verdicts: readonly Verdict[]): Verdict {
  return RANK.find((verdict) => verdicts.includes(verdict)) ?? 'met';
}

function best(verdicts: readonly Verdict[]): Verdict {
  return [...RANK].reverse().find((verdict) => verdicts.includes(verdict)) ?? 'never';
}
