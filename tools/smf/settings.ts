/*
 * The service's settings: each property of the SMF property group `config`, and the member of the
 * daemon's configuration file that it becomes.
 *
 * The manifest, the start method and mdatad(8) all follow this table, and tests compare it with both
 * the manifest and the daemon's own schema. SMF allows no dot in a property's name, so a section's
 * name stands in front of its members: limits_connections is `limits.connections`.
 */

export type PropertyType = 'astring' | 'count' | 'boolean';

export interface Setting {
  /** Name within the property group. */
  readonly property: string;
  readonly type: PropertyType;
  /** Where its value goes in the configuration file. */
  readonly path: readonly string[];
  /** As the manifest has it: the daemon's own default, or the word for "not set". */
  readonly initial: string;
  /** A property that holds exactly this is left out of the file. Needed where there is no default. */
  readonly unset?: string;
  /** The property may have many values and becomes an array. */
  readonly list?: true;
  /** A value as the site's file may have it, where nothing is set at first. */
  readonly example?: string;
  /** For people: what it does, with unit and range. */
  readonly text: string;
}

export const SETTINGS: readonly Setting[] = [
  {
    property: 'log_level',
    type: 'astring',
    path: ['log_level'],
    initial: 'info',
    text: 'Least level that is logged: `trace`, `debug`, `info`, `warn` or `error`.',
  },
  {
    property: 'vminfod',
    type: 'astring',
    path: ['vminfod'],
    initial: '',
    unset: '',
    example: '"http://127.0.0.1:9090"',
    text: "Where vminfod answers, `http://`_HOST_`:`_PORT_ or `unix:`_PATH_. Not set: the platform's own.",
  },
  {
    property: 'writer',
    type: 'astring',
    path: ['writer'],
    initial: 'file',
    text: "How guests' changes reach `metadata.json`: `file` (written in place, safely), the one supported way on a node, or `vmadm`, for simulated nodes.",
  },
  {
    property: 'restore_undone_writes',
    type: 'boolean',
    path: ['restore_undone_writes'],
    initial: 'true',
    text: 'Writes again, once, what a `vmadm update` has undone from an old copy of the VM.',
  },
  {
    property: 'operator_script_writable',
    type: 'boolean',
    path: ['operator_script_writable'],
    initial: 'false',
    text: "Lets guests PUT `operator-script`, as the platform's own agent does. They may always DELETE it.",
  },
  {
    property: 'store_empty_values',
    type: 'boolean',
    path: ['store_empty_values'],
    initial: 'false',
    text: "Stores the empty value of a PUT, which is refused otherwise, as by the platform's own agent.",
  },
  {
    property: 'readers',
    type: 'astring',
    path: ['readers'],
    initial: '',
    unset: '',
    example: '[1000]',
    list: true,
    text: "User ids besides root's whose processes in a zone may read its metadata, but not change it. Not set: nobody.",
  },
  {
    property: 'reconcile_seconds',
    type: 'count',
    path: ['reconcile_seconds'],
    initial: '60',
    text: 'How often the zones are compared with the state that events gave, seconds, 1 to 3600.',
  },
  {
    property: 'metrics_port',
    type: 'count',
    path: ['metrics_port'],
    initial: '0',
    unset: '0',
    example: '9101',
    text: 'A loopback port that serves the metrics to Prometheus. 0: none.',
  },
  {
    property: 'limits_line_bytes',
    type: 'count',
    path: ['limits', 'line_bytes'],
    initial: '2097152',
    text: 'Longest request line, bytes.',
  },
  {
    property: 'limits_unsent_bytes',
    type: 'count',
    path: ['limits', 'unsent_bytes'],
    initial: '4194304',
    text: 'Replies that a guest has not read yet, bytes a connection. Above it no request is read.',
  },
  {
    property: 'limits_queued_requests',
    type: 'count',
    path: ['limits', 'queued_requests'],
    initial: '16',
    text: 'Requests of one connection that may wait for their answer.',
  },
  {
    property: 'limits_connections',
    type: 'count',
    path: ['limits', 'connections'],
    initial: '64',
    text: 'Open connections of one zone.',
  },
  {
    property: 'limits_idle_seconds',
    type: 'count',
    path: ['limits', 'idle_seconds'],
    initial: '600',
    text: 'A silent connection of a zone socket is closed after this, seconds.',
  },
  {
    property: 'limits_writes_per_second',
    type: 'count',
    path: ['limits', 'writes_per_second'],
    initial: '20',
    text: 'Writes of one zone a second on the long run.',
  },
  {
    property: 'limits_write_burst',
    type: 'count',
    path: ['limits', 'write_burst'],
    initial: '100',
    text: 'Writes of one zone at once.',
  },
  {
    property: 'limits_metadata_bytes',
    type: 'count',
    path: ['limits', 'metadata_bytes'],
    initial: '4194304',
    text: "What a guest can write of its VM's metadata, bytes.",
  },
  {
    property: 'limits_metadata_keys',
    type: 'count',
    path: ['limits', 'metadata_keys'],
    initial: '1024',
    text: 'Metadata keys that a guest can write.',
  },
  {
    property: 'limits_metadata_file_bytes',
    type: 'count',
    path: ['limits', 'metadata_file_bytes'],
    initial: '16777216',
    text: "Size of one VM's `metadata.json` with the operator's data, bytes.",
  },
  {
    property: 'limits_records_per_second',
    type: 'count',
    path: ['limits', 'records_per_second'],
    initial: '50',
    text: 'Log records of one zone a second on the long run.',
  },
  {
    property: 'limits_record_burst',
    type: 'count',
    path: ['limits', 'record_burst'],
    initial: '500',
    text: 'Log records of one zone at once.',
  },
  {
    property: 'limits_log_bytes_per_second',
    type: 'count',
    path: ['limits', 'log_bytes_per_second'],
    initial: '16384',
    text: 'Bytes of the log that one zone may write a second on the long run; 16 times as many at once.',
  },
  {
    property: 'datasets_enabled',
    type: 'boolean',
    path: ['datasets', 'enabled'],
    initial: 'true',
    text: 'The safe policy of delegated datasets, as a whole.',
  },
  {
    property: 'datasets_owners',
    type: 'astring',
    path: ['datasets', 'owners'],
    initial: '',
    unset: '',
    example: '["930896af-bf8c-48d4-885c-6573a94b1853"]',
    list: true,
    text: 'Owners who may use that policy, as uuids. Not set: everyone.',
  },
  {
    property: 'datasets_plain_owners',
    type: 'astring',
    path: ['datasets', 'plain_owners'],
    initial: '',
    unset: '',
    example: '["930896af-bf8c-48d4-885c-6573a94b1853"]',
    list: true,
    text: 'Owners whose zones may have a plain delegated dataset, as uuids: nobody else is exempt from that policy. Not set: every zone is that was never made safe.',
  },
];

/** The settings of a site as an example with comments: every member in its place, and none in force. */
export function exampleSite(): string {
  const sections = [...new Set(SETTINGS.flatMap(({ path }) => (path.length > 1 ? path[0] : [])))];
  const members = (section: string | undefined, indent: string): string[] =>
    SETTINGS.filter(({ path }) => (path.length > 1 ? path[0] : undefined) === section).map(
      (setting) =>
        `${indent}// ${setting.text.replace(/[`_]/g, '')}\n` +
        `${indent}// "${setting.path.at(-1) ?? ''}": ${exampleValue(setting)}\n`,
    );
  return [
    '// Settings of this site. A copy of this file as /opt/mdatad/etc/mdatad.json outlives reboots and upgrades,\n',
    '// and wins over the properties of the service. Take the slashes off the members that are to differ, and put\n',
    '// commas between them. Then: svcadm refresh mdatad\n',
    '{\n',
    members(undefined, '  ').join('\n'),
    ...sections.flatMap((section) => [
      `\n  // "${section}": {\n`,
      members(section, '  //   ')
        .join('  //\n')
        .replace(/(\/\/ {3})\/\/ /g, '$1'),
      '  // }\n',
    ]),
    '}\n',
  ].join('');
}

function exampleValue({ type, initial, example }: Setting): string {
  return example ?? (type === 'astring' ? JSON.stringify(initial) : initial);
}
