/*
 * What there is to complete of a program: its subcommands, options and operands, made of its own commander definition.
 * Pure; the scripts for the shells are made of it by completion.ts.
 *
 * A value is completed by its name: `uuid` is a zone, `file` and `dir` are paths; or it is one of its choices, or a
 * list of names between commas.
 */
import { Argument, type Command, type Option } from 'commander';
import { ONLY_IF, TOKEN, type ToolOption } from './mdata/arguments';

/** What the shell needs to know of a program. */
export interface Completed {
  readonly name: string;
  readonly description: string;
  readonly options: readonly CompletedOption[];
  /** Of a program without subcommands. */
  readonly operands: readonly Place[];
  readonly subcommands: readonly Subcommand[];
}

export interface CompletedOption {
  readonly flag: string;
  readonly short: string | null;
  readonly description: string;
  /** Null where it takes no value. */
  readonly value: Place | null;
}

export interface Subcommand {
  readonly name: string;
  readonly description: string;
  readonly options: readonly CompletedOption[];
  readonly operands: readonly Place[];
}

/** Where a value stands: an operand, or the value of an option. */
interface Place {
  readonly name: string;
  /** Words of `_mdatad_words`. */
  readonly words: string;
}

const HELP: CompletedOption = {
  flag: '--help',
  short: null,
  description: 'print a summary',
  value: null,
};
const KEYS = 'sdc:uuid sdc:alias sdc:hostname sdc:nics user-script root_authorized_keys';

/** The guests' commands, which read their options themselves. */
export const MDATA_PROGRAMS: readonly Completed[] = [
  mdataProgram('mdata-get', 'Prints the value of a metadata key', [TOKEN], KEYS),
  mdataProgram('mdata-put', 'Sets a metadata key', [ONLY_IF]),
  mdataProgram('mdata-list', 'Lists the metadata keys, one a line'),
  mdataProgram('mdata-delete', 'Removes a metadata key', [ONLY_IF]),
  mdataProgram('mdata-watch', 'Waits for changes of metadata keys', [
    { flag: '-t', value: 'SECONDS', help: 'end after this long' },
    { flag: '--once', help: 'end after the first change' },
  ]),
  mdataProgram('mdata-dump', 'Prints all metadata as JSON', [
    { flag: '--sdc', help: 'the properties of the instance too' },
  ]),
];

/** @param keys that are often asked for */
function mdataProgram(
  name: string,
  description: string,
  own: readonly ToolOption[] = [],
  keys = '',
): Completed {
  const common: readonly ToolOption[] = [
    { flag: '--socket', value: 'FILE', help: 'the socket to connect to' },
    { flag: '--timeout', value: 'SECONDS', help: 'give up after this long' },
    { flag: '--version', help: 'print the version' },
  ];
  const options = [...own, ...common].map(({ flag, value, help }) => ({
    flag,
    short: null,
    description: help,
    value:
      value === undefined
        ? null
        : { name: value.toLowerCase(), words: value === 'FILE' ? 'file' : '' },
  }));
  const operands = keys === '' ? [] : [{ name: 'key', words: keys }];
  return { name, description, options: [...options, HELP], operands, subcommands: [] };
}

/**
 * A program of commander's.
 * @param words more words, by `COMMAND ARGUMENT`, for what takes other words too
 * @param lists the names that an option takes several of, between commas, by `COMMAND --OPTION`
 */
export function completed(
  program: Command,
  words: Readonly<Record<string, readonly string[]>> = {},
  lists: Readonly<Record<string, readonly string[]>> = {},
): Completed {
  const subcommands = program.commands.map((command) => ({
    name: command.name(),
    description: command.description(),
    options: optionsOf(command).map((option) => {
      const names = lists[`${command.name()} ${option.flag}`];
      const { value } = option;
      return names === undefined || value?.words !== ''
        ? option
        : { ...option, value: { ...value, words: `list ${names.join(' ')}` } };
    }),
    operands: command.registeredArguments.map((argument, i) => {
      const more = [
        ...(words[`${command.name()} ${argument.name()}`] ?? []),
        ...(i === 0 ? command.commands.map((inner) => inner.name()) : []),
      ];
      return { name: argument.name(), words: [wordsOf(argument), ...more].join(' ').trim() };
    }),
  }));
  return {
    name: program.name(),
    description: program.description(),
    options: optionsOf(program),
    operands: [],
    subcommands,
  };
}

/** The options of a command and of the commands in it, and --help, which commander has of itself. */
function optionsOf(command: Command): CompletedOption[] {
  const own = command.options.filter(({ hidden }) => !hidden);
  return [
    ...own.map((option) => ({
      flag: option.long ?? option.short ?? '',
      short: option.long === undefined ? null : (option.short ?? null),
      description: option.description,
      value:
        option.required || option.optional
          ? { name: valueName(option) ?? 'value', words: wordsOf(option) }
          : null,
    })),
    ...command.commands.flatMap((inner) => (command.parent === null ? [] : optionsOf(inner))),
    HELP,
  ];
}

function valueName({ flags }: Option): string | undefined {
  return /<(\w+)/.exec(flags)?.[1];
}

function wordsOf(place: Argument | Option): string {
  if (place.argChoices !== undefined) {
    return place.argChoices.join(' ');
  }
  const name = place instanceof Argument ? place.name() : valueName(place);
  switch (name) {
    case 'uuid':
      return 'zone';
    case 'dir':
      return 'directory';
    case 'file':
      return 'file';
    default:
      return '';
  }
}
