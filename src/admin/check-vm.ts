/*
 * The doctor's steps for a VM's data: what vminfod tells and how old it is, and the config files.
 *
 * vminfod can lose its watch of a VM and say nothing (its files change, its copy does not). So it is
 * asked for this VM, and its answer is compared with the platform and with the files. Values are
 * compared here and go nowhere.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf, messageOf } from '../lib/errors';
import { printableKey } from '../log';
import { lostNamespaces, namespacesOf } from '../metadata/keys';
import { sizeOf } from '../platform/files';
import { readText } from '../platform/metadata-text';
import { MAX_METADATA_BYTES, pathOf, readConfigFile, type ConfigName } from '../vm/config-read';
import { MAP_NAMES, MetadataIndex } from '../vm/metadata-index';
import { own, ownString, parseJsonObject, type JsonObject } from '../metadata/vm-data';
import { askVminfod, showsFiles } from './health-files';
import { fail, ok, skip, warn, type DoctorTarget, type Step } from './doctor-context';
import { counted, inBytes, inWords } from './format';

const ASK_MS = 2000;
/** A change on its way from the file to vminfod has arrived after this. */
const SECOND_LOOK_MS = 500;
const RESTART = 'svcadm restart vminfod: it then reads all VMs anew';

/**
 * The steps of a VM's data: vminfod's object, the files below `config`, its namespaces. Takes half a second
 * where a second look is due.
 */
export async function checkVm(patient: DoctorTarget): Promise<Step[]> {
  return [
    await checkData(patient),
    await checkMetadata(patient),
    ...(['tags', 'routes'] as const).map((name) => checkMap(patient, name)),
    await checkNamespaces(patient),
  ];
}

async function checkData(patient: DoctorTarget): Promise<Step> {
  const step = 'VM data';
  const { visit, zone } = patient;
  const { vminfod, node } = visit;
  const facts = node.store.facts(zone.zonename);
  if (facts === undefined) {
    return vminfod.verdict === 'fail'
      ? fail(step, `none: vminfod ${vminfod.words}`, vminfod.remedy)
      : fail(step, `none: vminfod does not know this VM`, `vmadm get ${zone.zonename}; ${RESTART}`);
  }
  const changed = visit.monitor.changedAt(zone.zonename);
  const age = changed === undefined ? '' : `, its last change ${inWords(Date.now() - changed)} ago`;
  const told = `known from vminfod${age}`;
  if (vminfod.verdict === 'fail') {
    // A fault of the node, told there; this zone has what it needs.
    return ok(step, `${told}; nothing newer while vminfod is not there`);
  }
  let behind = await behindOf(patient);
  if (behind !== null) {
    await delay(SECOND_LOOK_MS);
    behind = await behindOf(patient);
  }
  return behind === null ? ok(step, told) : warn(step, `${told}, but ${behind}`, RESTART);
}

/** How vminfod's own copy differs from the truth; null where it does not. */
async function behindOf({ visit, zone }: DoctorTarget): Promise<string | null> {
  const { node } = visit;
  const { zonename } = zone;
  let vm: JsonObject | undefined;
  try {
    vm = await askVminfod(node.vminfodUrl, zonename, ASK_MS);
  } catch (err) {
    return `vminfod does not answer for it: ${messageOf(err)}`;
  }
  if (vm === undefined) {
    return 'vminfod answers with no object';
  }
  const state = ownString(vm, 'zone_state');
  if (state !== undefined && (state === 'running') !== (zone.state === 'running')) {
    return `vminfod is behind: it says ${state}, the platform says ${zone.state}`;
  }
  if (state !== node.store.facts(zonename)?.zoneState) {
    return 'its stream is behind its own answers';
  }
  const data = await node.store.data(zonename)?.load({ key: null });
  return data === undefined || showsFiles(vm, data)
    ? null
    : 'vminfod is behind: it does not show what the config files hold (guests get what they hold)';
}

const LOST = 'guests see none of it until then';

/** Found as the agent finds it: on a thread, by its members' offsets. */
async function checkMetadata({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'metadata.json';
  const path = pathOf(visit.node.paths.host(`${zone.facts.zonepath}/config`), 'metadata');
  const remedy = `vmadm get ${zone.zonename} shows what vminfod remembers; write the file from that`;
  try {
    const text = await readText(path, MAX_METADATA_BYTES, 0);
    const size = inBytes(sizeOf(text.stat));
    if (text.kind === 'ok') {
      const index = new MetadataIndex(text.offsets);
      const wrong = MAP_NAMES.filter((map) => ['other', 'null'].includes(index.map(map).state));
      const names = wrong.map((map) => `${map}_metadata`).join(' and ');
      return wrong.length === 0
        ? ok(step, `${size}, well formed`)
        : fail(step, `${path} (${size}): ${names} holds no JSON object: ${LOST}`, remedy);
    }
    switch (text.reason) {
      case 'not a regular file':
        return fail(step, `${path} is ${text.reason}: ${LOST}`, 'put a regular file in its place');
      case 'blank':
        return warn(step, `${path} is blank: the next write of the guest makes it anew`, remedy);
      default:
        return fail(
          step,
          `${path} (${size}) is damaged: ${text.reason}: ${LOST}, and can write nothing`,
          remedy,
        );
    }
  } catch (err) {
    return unreadable(step, err);
  }
}

function checkMap({ visit, zone }: DoctorTarget, name: Exclude<ConfigName, 'metadata'>): Step {
  const step = `${name}.json`;
  const path = pathOf(visit.node.paths.host(`${zone.facts.zonepath}/config`), name);
  try {
    const file = readConfigFile(path);
    if (file.kind === 'refused') {
      return fail(step, `${path} is ${file.reason}: ${LOST}`, 'put a regular file in its place');
    }
    const size = inBytes(file.bytes.length);
    return parseJsonObject(file.bytes.toString('utf8')) === undefined
      ? fail(
          step,
          `${path} (${size}): the file holds no JSON object: ${LOST}`,
          `vmadm get ${zone.zonename} shows what vminfod remembers; write the file from that`,
        )
      : ok(step, `${size}, well formed`);
  } catch (err) {
    return unreadable(step, err);
  }
}

function unreadable(step: string, err: unknown): Step {
  return codeOf(err) === 'ENOENT'
    ? skip(step, 'the VM has none')
    : fail(step, messageOf(err), 'mend the file system or the permissions');
}

/** Reads what the agent would serve: a file that cannot be read was told of above. */
async function checkNamespaces({ visit, zone }: DoctorTarget): Promise<Step> {
  const step = 'namespaces';
  const data = visit.node.store.data(zone.zonename);
  const vm = data?.vm();
  if (data === undefined || vm === undefined) {
    return skip(step, 'not known before the VM data is');
  }
  try {
    const loaded = await data.load({ key: null });
    const lost = lostNamespaces(loaded.metadata().internal, namespacesOf(vm)).map(printableKey);
    if (lost.length === 0) {
      const count = namespacesOf(vm).length;
      return ok(step, count === 0 ? 'none' : `${counted(count, 'namespace')}, all listed`);
    }
    const names = JSON.stringify([...namespacesOf(vm), ...lost]);
    return warn(
      step,
      `internal_metadata has keys of ${lost.join(', ')}, which internal_metadata_namespaces does not list: guests read and write their own in place of them`,
      `vmadm update ${String(own(vm, 'uuid'))} <<<'{"internal_metadata_namespaces":${names}}'`,
    );
  } catch (err) {
    return skip(step, messageOf(err));
  }
}
