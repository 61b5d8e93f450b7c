import { entries, HELP_OPTION, type Entry, type ManCommand, type Option } from '../command';

export const OPTIONS: readonly Option[] = [
  {
    flag: '--socket',
    value: 'PATH',
    words: 'file',
    text: "The metadata socket. Default: the environment variable `MDATA_SOCKET`, or else the zone's own.",
  },
  {
    flag: '--timeout',
    value: 'SECONDS',
    text: 'Gives up after this long. Default: the environment variable `MDATA_TIMEOUT`, or else it tries until it is answered, as at boot.',
  },
  { flag: '--version', text: 'Prints the version and ends.' },
  HELP_OPTION,
];

/** Of each of the four. */
const LITERAL =
  'Options stand before the first operand. Every word behind it is taken as it is, whatever it begins with, and operands beyond those named here are ignored, as by the client of the platform.';

export const FILES = entries('FILES', [
  ['`/.zonecontrol/metadata.sock`', 'The socket in a SmartOS zone.'],
  ['`/native/.zonecontrol/metadata.sock`', 'The socket in an lx zone.'],
]);

const ONLY_IF: Option = {
  flag: '--if',
  value: 'TOKEN',
  text: 'Only if the key still has this token, as `mdata-get --token` prints it; `-` for a key that must not exist. Otherwise nothing is changed, the current token is printed and the exit status is 1.',
};

const KEYS =
  'Keys that begin with `sdc:` are properties of the instance itself, and can only be read: `sdc:uuid`, `sdc:alias`, `sdc:hostname`, `sdc:nics` and others.';

export const FAILED: readonly Entry[] = [
  ['2', 'The request failed or could not be made; the reason is on standard error.'],
  ['3', 'Wrong usage.'],
];

export const MDATA_GET: ManCommand = {
  name: 'mdata-get',
  section: 1,
  summary: 'print the value of a metadata key',
  synopsis: ['[--socket PATH] [--timeout SECONDS] [--token] KEY'],
  description: [
    'mdata-get asks the metadata agent of the compute node for a key of this zone and prints its value, followed by a newline where it does not end in one.',
    KEYS,
    LITERAL,
  ],
  options: [
    {
      flag: '--token',
      text: "Prints the key's token instead of its value: a short text that is the same as long as the answer is. For `mdata-put --if`.",
    },
    ...OPTIONS,
  ],
  words: [
    'sdc:uuid',
    'sdc:alias',
    'sdc:hostname',
    'sdc:nics',
    'user-script',
    'root_authorized_keys',
  ],
  sections: [
    {
      title: 'EXAMPLES',
      blocks: [
        { kind: 'example', text: 'Which instance is this?', lines: ['$ mdata-get sdc:uuid'] },
      ],
    },
    FILES,
  ],
  exit: [['0', 'Found.'], ['1', 'There is no such key.'], ...FAILED],
  seeAlso: ['mdata-put(1)', 'mdata-list(1)', 'mdata-delete(1)', 'mdatad(8)'],
};

export const MDATA_PUT: ManCommand = {
  name: 'mdata-put',
  section: 1,
  summary: 'set a metadata key',
  synopsis: ['[--socket PATH] [--timeout SECONDS] [--if TOKEN] KEY [VALUE]'],
  description: [
    "mdata-put sets a key of this zone's metadata. Without _VALUE_ the value is read from standard input, to its end, a final newline included; so it stays out of the list of processes. Values are UTF-8.",
    'When it ends with exit status 0, the value is on stable storage and every later mdata-get sees it.',
    LITERAL,
  ],
  options: [ONLY_IF, ...OPTIONS],
  sections: [
    {
      title: 'EXAMPLES',
      blocks: [
        {
          kind: 'example',
          text: 'Tell the load balancers that this instance is up:',
          lines: ['$ mdata-put triton.cns.status up'],
        },
        {
          kind: 'example',
          text: 'Set a value that holds newlines:',
          lines: ['$ mdata-put user-data < user-data.yaml'],
        },
      ],
    },
    FILES,
  ],
  exit: [['0', 'Set.'], ['1', 'With `--if`: the key has another token.'], ...FAILED],
  seeAlso: ['mdata-get(1)', 'mdata-list(1)', 'mdata-delete(1)', 'mdatad(8)'],
};

export const MDATA_LIST: ManCommand = {
  name: 'mdata-list',
  section: 1,
  summary: 'list the metadata keys of this zone',
  synopsis: ['[--socket PATH] [--timeout SECONDS]'],
  description: [
    "mdata-list prints the keys of this zone's metadata, one a line. Properties of the instance (`sdc:`) are not among them.",
    LITERAL,
  ],
  options: OPTIONS,
  sections: [FILES],
  exit: [['0', 'Listed; an empty list is no error.'], ...FAILED],
  seeAlso: ['mdata-get(1)', 'mdata-put(1)', 'mdata-delete(1)', 'mdatad(8)'],
};

export const MDATA_DELETE: ManCommand = {
  name: 'mdata-delete',
  section: 1,
  summary: 'remove a metadata key',
  synopsis: ['[--socket PATH] [--timeout SECONDS] [--if TOKEN] KEY'],
  description: [
    "mdata-delete removes a key of this zone's metadata. To remove a key that is not there is no error.",
    LITERAL,
  ],
  options: [ONLY_IF, ...OPTIONS],
  sections: [FILES],
  exit: [
    ['0', 'Removed, or not there.'],
    ['1', 'With `--if`: the key has another token.'],
    ...FAILED,
  ],
  seeAlso: ['mdata-get(1)', 'mdata-put(1)', 'mdata-list(1)', 'mdatad(8)'],
};
