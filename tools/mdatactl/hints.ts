/*
 * Suggests what a guest may have meant by an `sdc:` key that does not exist: guides in the wild ask for
 * `sdc:account_uuid` and `sdc:datacenter`, and a script that gets NOTFOUND says nothing. Shown with `mdatactl zone` and
 * `tail`; the guest's answer and the agent's log know nothing of it. Pure.
 */
import type { ZoneReport } from '../../src/admin/status';
import { editDistance } from '../edit-distance';
import { isJsonObject, own, ownString, type JsonObject } from '../../src/metadata/vm-data';

const SDC = 'sdc:';
/** No name is longer by more than a few characters; a guest may ask for anything. */
const MAX_NAME_CHARS = 40;

/** Properties of VM objects that images ask for, as the platform's property table names them. */
const NAMES: readonly string[] = [
  ...['uuid', 'zonename', 'alias', 'hostname', 'dns_domain', 'brand', 'state', 'zone_state'],
  ...['owner_uuid', 'billing_id', 'image_uuid', 'server_uuid', 'datacenter_name', 'headnode_id'],
  ...['package_name', 'package_version', 'create_timestamp', 'last_modified', 'boot_timestamp'],
  ...['platform_buildstamp', 'kernel_version', 'init_name', 'autoboot', 'docker', 'hvm'],
  ...['nics', 'resolvers', 'routes', 'maintain_resolvers', 'default_gateway', 'firewall_enabled'],
  ...['operator-script', 'volumes', 'datasets', 'delegate_dataset', 'filesystems', 'disks'],
  ...['tmpfs', 'quota', 'ram', 'vcpus', 'cpu_cap', 'cpu_shares', 'cpu_type', 'zpool', 'zonepath'],
  ...['max_physical_memory', 'max_locked_memory', 'max_swap', 'max_lwps', 'zfs_io_priority'],
  ...['zfs_filesystem', 'zfs_snapshot_limit', 'zfs_filesystem_limit', 'limit_priv', 'fs_allowed'],
  ...['internal_metadata_namespaces', 'metadata_bytes', 'metadata_limit'],
];

/** Other names of a property, and keys of the guest's own that are asked for as the VM's. */
const ALIASES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'sdc:owner_uuid': [
      'account',
      'account_id',
      'account_uuid',
      'customer_uuid',
      'owner',
      'user_uuid',
    ],
    'sdc:uuid': ['id', 'instance_id', 'instance_uuid', 'machine_id', 'vm_uuid', 'zone_uuid'],
    'sdc:alias': ['machine_name', 'name', 'vm_name'],
    'sdc:datacenter_name': ['availability_zone', 'datacenter', 'dc', 'region'],
    'sdc:server_uuid': ['cn_uuid', 'compute_node', 'host_uuid', 'server', 'server_id'],
    'sdc:image_uuid': ['dataset_uuid', 'image', 'image_id'],
    'sdc:package_name': ['package', 'package_uuid'],
    'sdc:max_physical_memory': ['memory', 'physical_memory'],
    'sdc:create_timestamp': ['created', 'created_at'],
    'sdc:nics': ['interfaces', 'networks'],
    'sdc:nics.0.ip': ['ip', 'ip_address', 'ips', 'primary_ip'],
    'sdc:nics.0.mac': ['mac', 'mac_address'],
    'sdc:resolvers': ['dns', 'dns_servers', 'nameservers'],
    'sdc:dns_domain': ['dns_search', 'domain', 'domainname', 'domain_name'],
    'sdc:hostname': ['fqdn', 'host'],
    'user-script': ['user-script', 'user_script'],
    'user-data': ['user-data', 'user_data', 'userdata'],
    root_authorized_keys: ['authorized_keys', 'root_authorized_keys', 'ssh_keys'],
  }).flatMap(([key, names]) => names.map((name) => [name, key] as const)),
);

/** The key that was probably meant; null where none is near, or the key is a right one without a value. */
export function hintFor(key: string): string | null {
  const name = key.slice(SDC.length).toLowerCase();
  if (!key.startsWith(SDC) || name === '' || name.length > MAX_NAME_CHARS) {
    return null;
  }
  const alias = ALIASES.get(name);
  if (alias !== undefined) {
    return alias;
  }
  // One slip in five characters: more of them and another word was meant.
  let least = 1 + Math.floor(name.length / 5);
  let nearest: string | null = null;
  for (const each of NAMES) {
    const distance = editDistance(name, each, least);
    if (distance <= least && (nearest === null || distance < least)) {
      [least, nearest] = [distance, each];
    }
  }
  const hint = `${SDC}${nearest ?? ''}`;
  return nearest === null || hint === key ? null : hint;
}

/** A report of a zone with the hints for the keys that its guest asked for lately, and for its records. */
export function withHints(zone: ZoneReport) {
  const hints = (zone.tally?.missing ?? []).flatMap((asked) => {
    const meant = hintFor(asked);
    return meant === null ? [] : [{ asked, meant }];
  });
  const records = zone.records.map((record) => ({ ...record, fields: withHint(record.fields) }));
  return { ...zone, hints, records };
}

/** A log record with its hint, where it is of a GET that found nothing. */
export function withHint<R extends JsonObject>(record: R): R {
  const hint = hintForRecord(record);
  return hint === null ? record : { ...record, hint };
}

function hintForRecord(record: JsonObject): string | null {
  const query = own(record, 'query');
  if (own(record, 'response') !== 'NOTFOUND' || !isJsonObject(query)) {
    return null;
  }
  const key = ownString(query, 'cmd') === 'GET' ? ownString(query, 'arg') : undefined;
  return key === undefined ? null : hintFor(key);
}
