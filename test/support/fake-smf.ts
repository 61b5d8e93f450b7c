/*
 * SMF in small, for the install scripts and methods: `fake-smf.js STATE COMMAND ARGUMENTS`, as which
 * svcadm, svccfg, svcs, svcprop and zonename are called from a directory in the PATH (see node-root.ts).
 *
 * It keeps the repository in STATE/state.json, notes each call in STATE/calls and each change of a state in
 * STATE/history, and refuses arguments that the platform's commands would refuse. What a manifest does to the
 * repository follows svccfg_xml.c and svccfg_libscf.c of illumos; what the repository does to services is
 * fake-startd.ts. It runs the real methods below the fake root.
 */
import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  contractOf,
  kill,
  partsOf,
  Startd,
  type Group,
  type Groups,
  type Property,
  type Service,
} from './fake-startd';
import { faultsOf, readManifest, type Entity, type Manifest } from './manifest';

/** Where a node imports the manifests of its owner from, at each boot. */
const CUSTOM = 'opt/custom/smf';

function main([directory = '', command = '', ...args]: string[]): number {
  appendFileSync(join(directory, 'calls'), `${[command, ...args].join(' ')}\n`);
  const startd = new Startd(directory, BUILT_IN);
  const status = serve(startd, command, args);
  startd.save();
  return status;
}

/** The platform's methods that matter to the tests: manifest-import of the milestone of that name. */
const BUILT_IN: ReadonlyMap<string, (startd: Startd) => void> = new Map([
  [
    '/lib/svc/method/manifest-import',
    (startd: Startd) => {
      const directory = join(startd.state.root, CUSTOM);
      const names = existsSync(directory) ? readdirSync(directory).sort() : [];
      for (const name of names.filter((file) => file.endsWith('.xml'))) {
        importManifest(startd, join(directory, name));
      }
    },
  ],
]);

function serve(startd: Startd, command: string, args: readonly string[]): number {
  const line = args.join(' ');
  const [fmri = ''] = args.slice(-1);
  switch (command) {
    case 'zonename':
      process.stdout.write(`${startd.state.zonename}\n`);
      return 0;
    case 'svcs':
      return /^-H -o state svc:\S+$/.test(line) ? printState(startd, fmri) : usage(command, line);
    case 'svcprop':
      return /^-p config svc:\S+$/.test(line) ? printConfig(startd, fmri) : usage(command, line);
    case 'svcadm':
      return /^(enable|disable)( -s)? svc:\S+$/.test(line)
        ? setEnabled(startd, fmri, args[0] === 'enable', args[1] === '-s')
        : usage(command, line);
    case 'svccfg':
      return configure(startd, args, line);
    case 'startd':
      return notifyStartd(startd, args);
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

function printState(startd: Startd, fmri: string): number {
  const instance = startd.find(fmri);
  if (instance === undefined) {
    return missing(fmri);
  }
  process.stdout.write(`${instance.state === 'starting' ? 'offline' : instance.state}\n`);
  return 0;
}

/** Every property of the group, those that an element of the manifest became included. */
function printConfig(startd: Startd, fmri: string): number {
  const instance = startd.find(fmri);
  if (instance === undefined) {
    return missing(fmri);
  }
  for (const [name, { type, values }] of Object.entries(
    instance.running.config?.properties ?? {},
  )) {
    const escaped = values.map((value) =>
      value === '' ? '""' : value.replace(/[^\w./:-]/g, '\\$&'),
    );
    process.stdout.write(`config/${name} ${type} ${escaped.join(' ')}\n`);
  }
  return 0;
}

function setEnabled(startd: Startd, fmri: string, enabled: boolean, wait: boolean): number {
  const instance = startd.find(fmri);
  if (instance === undefined) {
    return missing(fmri);
  }
  if (!enabled && instance.state === 'maintenance') {
    instance.state = 'disabled';
  }
  instance.enabled = enabled;
  startd.settle();
  if (wait && !enabled && startd.find(fmri)?.state === 'maintenance') {
    process.stderr.write(
      'svcadm: it waits for ever (wait_fmri_disabled in usr/src/cmd/svc/svcadm)\n',
    );
    spawnSync('sleep', ['60']);
  }
  return !wait || startd.find(fmri)?.state === (enabled ? 'online' : 'disabled') ? 0 : 1;
}

/** What happens to a node's processes, as the tests set it. */
function notifyStartd(startd: Startd, [event = '', pid = '']: readonly string[]): number {
  switch (event) {
    case 'settle':
      startd.settle();
      break;
    case 'check':
      break;
    default: {
      const contract = contractOf(Number(pid));
      kill(Number(pid), 'SIGKILL');
      startd.processDied(contract ?? '', event === 'core' ? 'core' : 'signal');
    }
  }
  startd.watchContracts();
  return 0;
}

// --- the repository --------------------------------------------------------------------------------

function configure(startd: Startd, args: readonly string[], line: string): number {
  const [last = ''] = args.slice(-1);
  if (/^import \/\S+\.xml$/.test(line)) {
    const status = importManifest(startd, last);
    startd.settle();
    return status;
  }
  if (/^-f \/\S+$/.test(line)) {
    return runCommands(startd, readFileSync(last, 'utf8'));
  }
  return /^delete -f svc:\/\S+$/.test(line) ? deleteEntity(startd, last) : usage('svccfg', line);
}

function importManifest(startd: Startd, path: string): number {
  const faults = faultsOf(path);
  if (faults !== '') {
    process.stderr.write(faults);
    return 1;
  }
  const manifest = readManifest(path);
  const { services } = startd.state;
  const groups = groupsOf(manifest);
  const service = (services[manifest.service] ??= { groups: {}, lastImport: {}, instances: {} });
  upgrade(service, groups);
  for (const [name, entity] of manifest.instances) {
    service.instances[name] ??= {
      groups: groupsOf(entity),
      running: {},
      enabled: entity.enabled,
      state: entity.enabled ? 'offline' : 'disabled',
      contract: 0,
    };
    startd.refresh(manifest.service, name);
  }
  for (const { name, grouping, restartOn, fmris } of manifest.dependents) {
    for (const fmri of fmris) {
      const target = services[partsOf(fmri)[0]];
      const external = { external: { type: 'boolean', values: ['true'] } };
      const group = dependency(grouping, restartOn, [`svc:/${manifest.service}`]);
      addGroup(startd, fmri, name, {
        type: group.type,
        properties: { ...group.properties, ...external },
      });
      for (const instance of Object.keys(target?.instances ?? {})) {
        startd.refresh(partsOf(fmri)[0], instance);
      }
    }
  }
  return 0;
}

/**
 * A service's own groups after one more manifest: what the last one brought, nobody changed and this one has
 * not is deleted, since svccfg takes it for a new edition of the same manifest (process_old_pg).
 */
function upgrade(service: Service, groups: Groups): void {
  const kept = Object.entries(service.groups).filter(
    ([name, group]) => JSON.stringify(group) !== JSON.stringify(service.lastImport[name]),
  );
  service.groups = { ...groups, ...Object.fromEntries(kept) };
  service.lastImport = groups;
}

/** Puts a group into a service or an instance, by FMRI. */
function addGroup(startd: Startd, fmri: string, name: string, group: Group): void {
  const [service, instance] = partsOf(fmri);
  const entry = startd.state.services[service];
  const groups = instance === undefined ? entry?.groups : entry?.instances[instance]?.groups;
  if (groups !== undefined) {
    groups[name] = group;
  }
}

function deleteEntity(startd: Startd, fmri: string): number {
  const { services } = startd.state;
  const [name, instance] = partsOf(fmri);
  const service = services[name];
  if (service === undefined || (instance !== undefined && !(instance in service.instances))) {
    return missing(fmri);
  }
  if (instance !== undefined) {
    service.instances = without(service.instances, instance);
  } else {
    startd.state.services = without(services, name);
    deleteDependents(startd, `svc:/${name}`);
  }
  startd.settle();
  return 0;
}

function without<T>(record: Record<string, T>, name: string): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}

/** The dependencies that a service's manifest put into others go with it. */
function deleteDependents(startd: Startd, fmri: string): void {
  for (const [name, service] of Object.entries(startd.state.services)) {
    service.groups = Object.fromEntries(
      Object.entries(service.groups).filter(
        ([, { properties }]) =>
          properties.external === undefined || properties.entities?.values[0] !== fmri,
      ),
    );
    for (const instance of Object.keys(service.instances)) {
      startd.refresh(name, instance);
    }
  }
}

/** A file of svccfg commands. The first that fails ends it, as it does on the platform. */
function runCommands(startd: Startd, text: string): number {
  let service = '';
  let instance: string | undefined;
  for (const line of text.split('\n')) {
    const [command = '', ...rest] = line.replace(/#.*$/, '').trim().split(/\s+/);
    const [first = '', second = ''] = rest;
    const entry = startd.state.services[service];
    const groups = instance === undefined ? undefined : entry?.instances[instance]?.groups;
    let done = true;
    switch (command) {
      case '':
        break;
      case 'select':
        if (entry !== undefined && first in entry.instances) {
          instance = first;
        } else {
          [service, instance] = partsOf(first);
          done = service in startd.state.services;
        }
        break;
      case 'add':
        done = entry !== undefined && !(first in entry.instances);
        if (entry !== undefined && done) {
          entry.instances[first] = emptyInstance();
        }
        break;
      case 'addpg':
        done = groups !== undefined && !(first in groups);
        if (groups !== undefined && done) {
          groups[first] = { type: second, properties: {} };
        }
        break;
      case 'setprop':
        done = setProperty(groups, rest.join(' '));
        break;
      case 'refresh':
        done = instance !== undefined;
        startd.refresh(service, instance ?? '');
        break;
      default:
        done = false;
    }
    if (!done) {
      process.stderr.write(`svccfg: cannot: ${line}\n`);
      return 1;
    }
  }
  startd.settle();
  return 0;
}

/** `GROUP/NAME = TYPE: VALUE`. */
function setProperty(groups: Groups | undefined, text: string): boolean {
  const [, group = '', name = '', type = '', value = ''] =
    /^(\S+)\/(\S+) = (\w+): (\S+)$/.exec(text) ?? [];
  const properties = groups?.[group]?.properties;
  if (properties === undefined || name === '') {
    return false;
  }
  properties[name] = { type, values: [value.replace(/^"(.*)"$/, '$1')] };
  return true;
}

function emptyInstance(): Service['instances'][string] {
  return { groups: {}, running: {}, enabled: false, state: 'disabled', contract: 0 };
}

/** What the elements of a service or an instance become in the repository. */
export function groupsOf(entity: Entity | Manifest): Groups {
  const groups: Groups = {};
  for (const { name, grouping, restartOn, fmris } of entity.dependencies) {
    groups[name] = dependency(grouping, restartOn, fmris);
  }
  for (const [name, { exec, seconds }] of entity.methods) {
    groups[name] = method(exec, seconds);
  }
  for (const [name, propvals] of entity.groups) {
    const properties: Record<string, Property> = {};
    for (const { name: property, type, value } of propvals) {
      properties[property] = { type, values: [value] };
    }
    groups[name] = { type: name === 'startd' ? 'framework' : 'application', properties };
  }
  return groups;
}

export function dependency(grouping: string, restartOn: string, fmris: readonly string[]): Group {
  return {
    type: 'dependency',
    properties: {
      grouping: { type: 'astring', values: [grouping] },
      restart_on: { type: 'astring', values: [restartOn] },
      entities: { type: 'fmri', values: fmris },
    },
  };
}

export function method(exec: string, seconds = 60): Group {
  return {
    type: 'method',
    properties: {
      exec: { type: 'astring', values: [exec] },
      timeout_seconds: { type: 'count', values: [String(seconds)] },
    },
  };
}

if (require.main === module) {
  process.exitCode = main(process.argv.slice(2));
}
