import { NOTIFY_STATES } from '../../../src/admin/node';
import { LOG_LEVELS } from '../../../src/config';
import { KEY_FIELD_NAMES, ZONE_FIELD_NAMES } from '../../mdatactl/show-zones';
import { SORT_KEYS } from '../../mdatactl/top';
import { CHECK_NAMES } from '../../preflight/preflight';
import {
  entries,
  HELP_OPTION,
  JSON_OPTION,
  ROOT_OPTION,
  VERSION_OPTION,
  type ManCommand,
  type Option,
} from '../command';
import { SHELLS } from '../completion';

/** The options of vmadm's and zfs' lists. */
const LIST_OPTIONS: readonly Option[] = [
  { flag: '--no-header', text: 'Leaves the header out. Short: `-H`.' },
  {
    flag: '--parsable',
    text: 'For scripts: cells between colons; a colon or backslash within a cell gets a backslash. Short: `-p`.',
  },
  {
    flag: '--fields',
    value: 'NAMES',
    text: 'Which columns, separated by commas. Short: `-o`.',
  },
  {
    flag: '--sort',
    value: 'NAMES',
    text: 'What to sort by, separated by commas; `-` before a name sorts descending. Short: `-s`.',
  },
];

const VMINFOD_OPTION: Option = {
  flag: '--vminfod',
  value: 'URL',
  text: 'Where vminfod answers: `http://HOST:PORT` or `unix:/PATH`. Default: as mdatad has it.',
};

const CHECK_OPTION: Option = {
  flag: '--check',
  value: 'NAME',
  words: CHECK_NAMES,
  text: `Makes this check only; may be given more than once. Names: ${CHECK_NAMES.join(', ')}.`,
};

export const MDATACTL: ManCommand = {
  name: 'mdatactl',
  section: 8,
  summary: 'show and control the metadata agent',
  synopsis: ['[--root DIR] [--json] COMMAND [ARGUMENT]'],
  description: [
    'mdatactl asks the running mdatad over its admin socket, to which only root may connect; `preflight` and `compare` need no mdatad. Tables are whole in a pipe; on a terminal a uuid is shown by its first eight digits. Colour is used on a terminal only.',
    "_UUID_ is a zone's uuid or name, its alias, or the beginning of its uuid, in any case; an ellipsis behind it does no harm.",
  ],
  options: [ROOT_OPTION, JSON_OPTION, VERSION_OPTION, HELP_OPTION],
  subcommands: [
    {
      name: 'status',
      operands: '',
      text: 'The agent in one screen: its health and what to do about it, version, uptime, zones, sockets, serial links, requests a second and their latency, pending writes, vminfod, what is in progress, memory, limits hit.',
    },
    {
      name: 'zones',
      operands: '',
      text: `One line a zone: alias, brand, state, health (\`ok\`, \`degraded\`, \`failed\`), link, requests, errors, reconnects, last request. Columns for \`-o\` and \`-s\`: ${ZONE_FIELD_NAMES.join(', ')}.`,
      options: [
        {
          flag: '--unhealthy',
          text: 'Only zones that are not healthy, with the reasons. The reasons are those of the metric `mdatad_zones_unhealthy`.',
        },
        ...LIST_OPTIONS,
      ],
    },
    {
      name: 'zone',
      operands: 'UUID',
      words: 'zone',
      text: 'Everything about one zone, with the history of its states and its last records.',
    },
    {
      name: 'keys',
      operands: 'UUID',
      words: 'zone',
      text: `The names of the zone's metadata and the length of each value in bytes, never a value: of the map \`customer\`, and of \`internal\`, which guests read only in the VM's namespaces and for names that end in \`_pw\`. Columns for \`-o\` and \`-s\`: ${KEY_FIELD_NAMES.join(', ')}.`,
      options: LIST_OPTIONS,
    },
    {
      name: 'get',
      operands: 'UUID KEY',
      words: 'zone',
      text: "Asks for a key as the guest would, through the zone's real socket. Prints the length; HVM guests have no socket to ask.",
      options: [{ flag: '--show-value', text: 'Prints the value too. It may be a password.' }],
    },
    {
      name: 'doctor',
      operands: '[UUID]',
      words: 'zone',
      text: 'Walks the whole chain of one zone or of all: index entry, directory and modes, socket, listener, mount, VM data and its age, serial port, a real round trip. Says where it breaks and what to do. What `status` calls degraded or failed is never `ok` here.',
      options: [{ flag: '--all', text: 'Shows each step, also of healthy zones.' }],
    },
    {
      name: 'top',
      operands: '',
      text: 'The busiest zones, live: requests, errors and bytes a second, mean latency in ms, open connections, last request. Keys: `r` `e` `b` `l` sort by requests, errors, bytes, latency; `f` filters by alias, name or brand; `p` pauses; `q` quits. Without a terminal it prints one screen and ends.',
      options: [
        {
          flag: '--sort',
          value: 'BY',
          words: SORT_KEYS,
          text: 'What to sort by at first: `requests`, `errors`, `bytes` or `latency`.',
        },
        { flag: '--interval', value: 'SECONDS', text: 'Time between two screens. Default: 2.' },
        { flag: '--screens', value: 'N', text: 'Prints so many screens and ends. Short: `-n`.' },
      ],
    },
    {
      name: 'preflight',
      operands: '',
      options: [VMINFOD_OPTION, CHECK_OPTION],
      text: 'Proves on this node what mdatad relies on, by doing it in a scratch directory below `/var/zonecontrol` and with a scratch lock, before mdatad is installed. Needs no mdatad, takes less than 30 s, and puts back what it changes, also when it is interrupted; what a killed run left behind is removed by the next. One line a check: `ok`; `WARN`, mdatad will serve, but something is not as it should be; `FAIL`, do not install. `smf/install` runs it first.',
    },
    {
      name: 'compare',
      operands: '',
      options: [
        {
          flag: '--sample',
          value: 'N',
          text: 'Asks so many zones only, spread evenly over all.',
        },
        VMINFOD_OPTION,
      ],
      text: "Runs while the platform's agent still serves. Asks the socket of every running OS zone for its keys, for each key it lists and for the well-known `sdc:` keys, and mdatad's own code for the same from the same data, and shows what differs: by zone, key and lengths, never a value. Intended differences are counted by their id. One connection at a time, at most 100 questions a second; the ports of HVM guests are not touched, and what is known to crash the platform's agent is not asked.",
    },
    { name: 'metrics', operands: '', text: 'The metrics, as Prometheus reads them.' },
    {
      name: 'log-level',
      operands: '[LEVEL]',
      words: LOG_LEVELS,
      text: 'Prints the level of the log, or sets it until the agent ends.',
    },
    {
      name: 'tail',
      operands: '[UUID]',
      words: 'zone',
      text: 'Prints log records as they come, of one zone or of all, until it is interrupted. The agent keeps the last 1,000 records that its log showed, and sends 256 KiB of them at most.',
      options: [
        {
          flag: '--lines',
          value: 'COUNT',
          text: 'Begins with so many of the last records. Short: `-n`.',
        },
        {
          flag: '--since',
          value: 'TIME',
          text: 'Begins with the records since then: `90s`, `5m`, `2h` or `1d` ago, or a time in ISO 8601.',
        },
        {
          flag: '--level',
          value: 'LEVEL',
          words: LOG_LEVELS,
          text: 'Only records of this level and above. The log itself shows no less than its own level: `mdatactl log-level`.',
        },
        { flag: '--no-follow', text: 'Ends after the kept records.' },
      ],
    },
    {
      name: 'notify',
      operands: 'UUID STATE',
      words: 'zone',
      thenWords: NOTIFY_STATES,
      text: `Notifies the agent that a zone is in _STATE_ (${NOTIFY_STATES.join(', ')}), for the hooks of a brand. The agent asks the platform; an event that says the same does no harm. A zone that does not exist is not a failure where _STATE_ is \`deleted\`.`,
    },
    {
      name: 'completion',
      operands: 'SHELL',
      words: SHELLS,
      text: 'Prints the completion of all commands for `bash` or `zsh`: `source <(mdatactl completion bash)`.',
    },
    {
      name: 'datasets',
      operands: '[UUID|expand]',
      words: 'zone',
      orWords: ['expand'],
      options: [
        ...LIST_OPTIONS,
        {
          flag: '--config',
          value: 'FILE',
          words: 'file',
          text: 'For `expand`: takes the policy from this configuration, not from the running agent.',
        },
      ],
      text: 'Delegated datasets and the policy in force for them. `datasets expand` expands `"delegate_dataset": "safe"` of the payload on stdin, or says why it is refused.',
    },
  ],
  sections: [
    {
      title: 'EXAMPLES',
      blocks: [
        { kind: 'example', text: 'Is the agent well?', lines: ['# mdatactl status'] },
        {
          kind: 'example',
          text: 'Why does this zone get no metadata?',
          lines: ['# mdatactl doctor 3f6a1c1e-6d3b-4b41-9d0d-2a7f6f0c8a55'],
        },
        {
          kind: 'example',
          text: 'Will mdatad run on this node? What a check expected, and what to do, follows where it is not well:',
          lines: [
            '# mdatactl preflight',
            'ok    global-zone       the global zone, kernel running',
            'ok    zone-events       subscribed, ping in 13 ms',
            'WARN  zone-directories  other users may enter 1: 3f6a1c1e-6d3b-... 0755 uid 0',
            '      expected: a directory 0700 root for every OS zone',
            '      -> mdatad repairs it at its start; now: chmod 700 /var/zonecontrol/*',
            '...',
            '1 warning, nothing failed; 28 checks in 7.5 s',
          ],
        },
        {
          kind: 'example',
          text: 'Will guests get the same answers as now?',
          lines: [
            '# mdatactl compare',
            'zones         14 running OS zones asked',
            'questions     463',
            'equal         463',
            'documented    0 differences',
            'undocumented  0 differences',
            'elapsed       4.7 s',
            '',
            'guests would get the same answers',
          ],
        },
        {
          kind: 'example',
          text: 'Which zones are not healthy?',
          lines: ['# mdatactl zones --unhealthy'],
        },
        {
          kind: 'example',
          text: 'Which zones had errors?',
          lines: ["# mdatactl zones --json | json -a -c 'this.errors > 0' zonename errors"],
        },
      ],
    },
    entries('FILES', [['`/var/run/mdatad/admin.sock`', 'Where the agent answers.']]),
  ],
  exit: [
    ['0', 'Done; for `get`: found; for `status`, `doctor` and `preflight`: all is well.'],
    [
      '1',
      'For `get` and `notify`: not found; for `doctor` and `preflight`: warnings; for `datasets expand`: refused.',
    ],
    [
      '2',
      'Failed, or the agent is not there; for `doctor`: something is broken; for `preflight`: a check failed; for `compare`: a difference that is not documented.',
    ],
    ['3', 'Wrong usage; for `status`: degraded.'],
    ['4', 'For `status`: failed, or the agent is not there.'],
  ],
  seeAlso: ['mdatad(8)', 'mdata-get(1)', 'vmadm(8)'],
};
