import { entries, type ManCommand } from '../command';
import { FAILED, FILES, OPTIONS } from './mdata';

export const MDATA_WATCH: ManCommand = {
  name: 'mdata-watch',
  section: 1,
  summary: 'wait for changes of metadata keys',
  synopsis: [
    '[--socket PATH] [--timeout SECONDS] [-t SECONDS] [--once] KEY... [-- COMMAND [ARG...]]',
  ],
  description: [
    'mdata-watch waits for changes of keys and prints, at each change, the name of each key that changed and its new value, a line each. A key that is gone is named on standard error. With _COMMAND_, that is run instead at each change, and waited for.',
    'A change is told within a second, usually at once. A value that changes and changes back while nobody waits can go unnoticed.',
    'Where the agent of the compute node cannot tell of changes, mdata-watch says so once and looks every 10 seconds.',
  ],
  options: [
    { flag: '-t', value: 'SECONDS', text: 'Ends after this long. Default: never.' },
    { flag: '--once', text: 'Ends after the first change.' },
    ...OPTIONS,
  ],
  sections: [
    entries('ENVIRONMENT', [
      ['`MDATA_KEYS`', 'For _COMMAND_: the keys that changed, one a line.'],
      [
        '`MDATA_TOKEN`',
        'For _COMMAND_: the token of all keys that are watched; empty where the agent knows none.',
      ],
    ]),
    {
      title: 'EXAMPLES',
      blocks: [
        {
          kind: 'example',
          text: 'Load a new configuration whenever the operator sets one:',
          lines: ['$ mdata-watch app-config -- svcadm refresh app'],
        },
      ],
    },
    FILES,
  ],
  exit: [
    ['0', 'Something changed.'],
    ['1', 'Nothing changed in the time given by `-t`.'],
    ...FAILED,
  ],
  seeAlso: ['mdata-get(1)', 'mdata-put(1)', 'mdata-dump(1)', 'mdatad(8)'],
};

export const MDATA_DUMP: ManCommand = {
  name: 'mdata-dump',
  section: 1,
  summary: 'print all metadata of this zone as JSON',
  synopsis: ['[--socket PATH] [--timeout SECONDS] [--sdc]'],
  description: [
    'mdata-dump prints a JSON object: `metadata` with the keys that mdata-list lists and their values, and `token`, which is the token of all of them where the agent knows one. Keys whose value has no text are left out.',
  ],
  options: [
    {
      flag: '--sdc',
      text: 'Adds `sdc`, with the properties of the instance that are commonly asked for, by their names without `sdc:`.',
    },
    ...OPTIONS,
  ],
  sections: [FILES],
  exit: [['0', 'Printed.'], ...FAILED],
  seeAlso: ['mdata-get(1)', 'mdata-list(1)', 'mdata-watch(1)', 'mdatad(8)'],
};
