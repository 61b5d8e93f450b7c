/*
 * SMF in small, for the install scripts and methods: `fake-smf.js STATE COMMAND ARGUMENTS`, as which
 * svcadm, svccfg, svcs, svcprop and zonename are called from a folder in the PATH (see node-root.ts).
 *
 * It keeps the services in STATE/state.json, notes each call in STATE/calls, and refuses arguments that
 * the platform's commands would refuse. It follows dependencies as SMF does, as far as manifests here
 * use them, and runs the real methods below the fake root.
 */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { faultsOf, readManifest, type Manifest } from './manifest';

export interface Service {
  enabled: boolean;
  state: 'disabled' | 'offline' | 'starting' | 'online' | 'maintenance';
  /** The manifest's path; null for the platform's services, which have no methods here. */
  readonly manifest: string | null;
}

export interface SmfState {
  readonly root: string;
  readonly zonename: string;
  services: Record<string, Service>;
}

/** As many rounds settle any chain of dependencies here. */
const SETTLE_ROUNDS = 10;

function main([folder = '', command = '', ...args]: string[]): number {
  appendFileSync(join(folder, 'calls'), `${[command, ...args].join(' ')}\n`);
  const state = load(folder);
  const status = serve(state, command, args);
  save(state);
  return status;
}

/** Where the state of this run came from. */
let home = '';

function load(folder: string): SmfState {
  home = folder;
  return JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8')) as SmfState;
}

function save(state: SmfState): void {
  writeFileSync(join(home, 'state.json'), JSON.stringify(state));
}

function serve(state: SmfState, command: string, args: readonly string[]): number {
  const line = args.join(' ');
  const [fmri = ''] = args.slice(-1);
  switch (command) {
    case 'zonename':
      process.stdout.write(`${state.zonename}\n`);
      return 0;
    case 'svcs':
      return /^-H -o state svc:\S+$/.test(line) ? printState(state, fmri) : usage(command, line);
    case 'svcprop':
      return /^-p config svc:\S+$/.test(line) ? printConfig(state, fmri) : usage(command, line);
    case 'svcadm':
      return /^(enable|disable) -s svc:\S+$/.test(line)
        ? setEnabled(state, fmri, args[0] === 'enable')
        : usage(command, line);
    case 'svccfg':
      if (/^import \/\S+\.xml$/.test(line)) {
        return importManifest(state, fmri);
      }
      return /^delete -f svc:\/\S+[^:]$/.test(line)
        ? deleteService(state, `${fmri}:default`)
        : usage(command, line);
    default:
      return usage(command, line);
  }
}

function usage(command: string, line: string): number {
  process.stderr.write(`${command}: usage: ${line}\n`);
  return 2;
}

function missing(fmri: string): number {
  process.stderr.write(`Pattern '${fmri}' doesn't match any instances\n`);
  return 1;
}

function printState(state: SmfState, fmri: string): number {
  const service = state.services[fmri];
  if (service === undefined) {
    return missing(fmri);
  }
  process.stdout.write(`${service.state}\n`);
  return 0;
}

function printConfig(state: SmfState, fmri: string): number {
  const manifest = manifestOf(state.services[fmri]);
  for (const { name, type, value } of manifest?.groups.get('config') ?? []) {
    const escaped = value === '' ? '""' : value.replace(/[^\w./:-]/g, '\\$&');
    process.stdout.write(`config/${name} ${type} ${escaped}\n`);
  }
  return manifest === null ? missing(fmri) : 0;
}

function setEnabled(state: SmfState, fmri: string, enabled: boolean): number {
  const service = state.services[fmri];
  if (service === undefined) {
    return missing(fmri);
  }
  service.enabled = enabled;
  settle(state);
  return state.services[fmri]?.state === (enabled ? 'online' : 'disabled') ? 0 : 1;
}

function importManifest(state: SmfState, path: string): number {
  const faults = faultsOf(path);
  if (faults !== '') {
    process.stderr.write(faults);
    return 1;
  }
  // The repository keeps what it imported, whatever becomes of the file.
  const manifest = join(home, basename(path));
  copyFileSync(path, manifest);
  const { fmri, enabled } = readManifest(manifest);
  state.services[fmri] ??= { enabled, state: 'offline', manifest };
  settle(state);
  return 0;
}

function deleteService(state: SmfState, fmri: string): number {
  if (state.services[fmri] === undefined) {
    return missing(fmri);
  }
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- a plain JSON object on disk
  delete state.services[fmri];
  return 0;
}

/** Starts and stops until every service is where its settings and dependencies want it. */
export function settle(state: SmfState): void {
  for (let round = 0; round < SETTLE_ROUNDS; round++) {
    for (const fmri of Object.keys(state.services)) {
      const service = state.services[fmri];
      if (service !== undefined) {
        step(state, fmri, service);
      }
    }
  }
}

function step(state: SmfState, fmri: string, service: Service): void {
  const manifest = manifestOf(service);
  if (!service.enabled) {
    if (service.state === 'online') {
      runMethod(state, fmri, manifest, 'stop');
    }
    service.state = 'disabled';
    return;
  }
  if (service.state === 'disabled') {
    service.state = 'offline';
  }
  if (service.state === 'offline' && (manifest?.dependencies ?? []).every((d) => isMet(state, d))) {
    service.state = 'starting';
    const started = runMethod(state, fmri, manifest, 'start');
    // The method may have called svcadm itself: the state was read again.
    const again = state.services[fmri];
    if (again !== undefined) {
      again.state = started ? 'online' : 'maintenance';
    }
    return;
  }
  const excluded = (manifest?.dependencies ?? []).filter((d) => d.restartOn === 'restart');
  if (service.state === 'online' && !excluded.every((d) => isMet(state, d))) {
    runMethod(state, fmri, manifest, 'stop');
    service.state = 'offline';
  }
}

function isMet(state: SmfState, { grouping, fmris }: Manifest['dependencies'][number]): boolean {
  const states = fmris.map((fmri) => state.services[fmri]?.state ?? 'absent');
  switch (grouping) {
    case 'require_all':
      return states.every((s) => s === 'online');
    case 'exclude_all':
      return states.every((s) => s !== 'online' && s !== 'maintenance');
    default: // optional_all: waits only for what is about to come
      return states.every((s) => s !== 'offline' && s !== 'starting');
  }
}

function runMethod(
  state: SmfState,
  fmri: string,
  manifest: Manifest | null,
  name: 'start' | 'stop',
): boolean {
  const exec = manifest?.methods.get(name)?.exec ?? ':true';
  if (exec === ':true') {
    return true;
  }
  if (exec === ':kill') {
    return killDaemon(state.root);
  }
  const logs = join(state.root, 'var/svc/log');
  mkdirSync(logs, { recursive: true });
  const log = openSync(join(logs, `${fmri.slice('svc:/'.length).replace(/\//g, '-')}.log`), 'a');
  const [file = '', ...args] = exec.split(' ');
  save(state);
  const { status } = spawnSync(join(state.root, file), args, {
    env: { ...process.env, SMF_FMRI: fmri },
    stdio: ['ignore', log, log],
    timeout: 30_000,
  });
  state.services = load(home).services;
  return status === 0;
}

/** SIGTERM, and returns once the process is gone. */
function killDaemon(root: string): boolean {
  const pid = Number(readFileSync(join(root, 'var/run/mdatad/mdatad.pid'), 'utf8'));
  // Polled by a shell, 5 s at most. One that ended may stay a zombie where init does not wait for it.
  const gone = '[ ! -d /proc/$1 ] || grep -q "^State:.Z" /proc/$1/status';
  const wait = `kill $1; i=0; until ${gone} || [ $i -ge 100 ]; do sleep .05; i=$((i + 1)); done`;
  spawnSync('/bin/sh', ['-c', wait, 'sh', String(pid)], { stdio: 'ignore' });
  return true;
}

function manifestOf(service: Service | undefined): Manifest | null {
  const manifest = service?.manifest ?? null;
  return manifest === null ? null : readManifest(manifest);
}

if (require.main === module) {
  process.exitCode = main(process.argv.slice(2));
}
