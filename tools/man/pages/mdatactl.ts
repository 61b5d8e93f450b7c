import { NOTIFY_STATES } from '../../../src/admin/notify-states';
import { LOG_LEVELS } from '../../../src/config';
import { ZONE_FIELD_NAMES } from '../../mdatactl/show-zones';
import { SORT_KEYS } from '../../mdatactl/top';
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

export const MDATACTL: ManCommand = {
  name: 'mdatactl',
  section: 8,
  summary: 'look at and steer the metadata agent',
  synopsis: ['[--root DIR] [--json] COMMAND [ARGUMENT]'],
  description: [
    'mdatactl asks the running mdatad over its admin socket, to which only root may connect. Tables are whole in a pipe; on a terminal a uuid is shown by its first eight digits. Colour is used on a terminal only.',
    "_UUID_ is a zone's uuid or name, its alias, or the beginning of its uuid, in any case; an ellipsis behind it does no harm.",
  ],
  options: [ROOT_OPTION, JSON_OPTION, VERSION_OPTION, HELP_OPTION],
  subcommands: [
    {
      name: 'status',
      operands: '',
      text: 'The agent in one screen: version, uptime, zones, sockets, serial links, requests a second and their latency, pending writes, vminfod, what is in progress, memory, limits hit.',
    },
    {
      name: 'zones',
      operands: '',
      text: `One line a zone: alias, brand, state, link, requests, errors, reconnects, last request. Columns for \`-o\` and \`-s\`: ${ZONE_FIELD_NAMES.join(', ')}.`,
      options: LIST_OPTIONS,
    },
    {
      name: 'zone',
      operands: 'UUID',
      words: 'zone',
      text: 'Everything about one zone, with the history of its states and its last records.',
    },
    {
      name: 'get',
      operands: 'UUID KEY',
      words: 'zone',
      text: "Asks for a key as the guest would, through the zone's real socket. Tells the length; HVM guests have no socket to ask.",
      options: [{ flag: '--show-value', text: 'Prints the value too. It may be a password.' }],
    },
    {
      name: 'doctor',
      operands: '[UUID]',
      words: 'zone',
      text: 'Walks the whole chain of one zone or of all: index entry, folder and modes, socket, listener, mount, VM data and its age, serial port, a real round trip. Says where it breaks and what to do.',
      options: [{ flag: '--all', text: 'Shows each step, also of zones that are well.' }],
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
        { flag: '--interval', value: 'SECONDS', text: 'How often to look. Default: 2.' },
        { flag: '--screens', value: 'N', text: 'Prints so many screens and ends. Short: `-n`.' },
      ],
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
      text: 'Prints log records as they come, of one zone or of all, until it is interrupted.',
    },
    {
      name: 'notify',
      operands: 'UUID STATE',
      words: 'zone',
      thenWords: NOTIFY_STATES,
      text: `Tells the agent that a zone is in _STATE_ (${NOTIFY_STATES.join(', ')}), for the hooks of a brand. The agent looks for itself; an event that also tells does no harm. That there is no such zone is no failure where it is said to be deleted.`,
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
          text: 'Which zones had errors?',
          lines: ["# mdatactl zones --json | json -a -c 'this.errors > 0' zonename errors"],
        },
      ],
    },
    entries('FILES', [['`/var/run/mdatad/admin.sock`', 'Where the agent answers.']]),
  ],
  exit: [
    ['0', 'Done; for `get`: found; for `doctor`: all is well.'],
    [
      '1',
      'For `get` and `notify`: not found; for `doctor`: warnings; for `datasets expand`: refused.',
    ],
    ['2', 'Failed, or the agent is not there; for `doctor`: something is broken.'],
    ['3', 'Wrong usage.'],
  ],
  seeAlso: ['mdatad(8)', 'mdata-get(1)', 'vmadm(8)'],
};
