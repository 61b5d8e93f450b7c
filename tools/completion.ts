/*
 * The shell completion of a program, made of its own commander definition: what `mdatactl completion` and `simcn
 * completion` print. Pure.
 *
 * The value of an option or argument is completed by its name: `uuid` is a zone, `file` and `dir` are paths; or it
 * is one of its choices. Needs nothing but the shell (SmartOS has no bash-completion); zsh takes bash's completions
 * through its own bashcompinit. Zones are completed from the node's own list, /etc/zones/index below the --root
 * that stands on the line.
 */
import { Argument, type Command, type Option } from 'commander';

export const SHELLS = ['bash', 'zsh'] as const;
export type Shell = (typeof SHELLS)[number];

/** What the shell needs to know of a program. */
export interface Completed {
  readonly name: string;
  readonly options: readonly CompletedOption[];
  /** What fills the first operand of a program without subcommands: words of `_mdatad_words`. */
  readonly operand: string;
  readonly subcommands: readonly Subcommand[];
}

interface CompletedOption {
  readonly flag: string;
  /** Words of `_mdatad_words` for its value; null where it takes none. */
  readonly value: string | null;
}

interface Subcommand {
  readonly name: string;
  readonly options: readonly CompletedOption[];
  /** Words of `_mdatad_words`, for each operand. */
  readonly operands: readonly string[];
}

/** Options that only some of the guests' commands take. */
const MDATA_OPTIONS: Readonly<Record<string, readonly CompletedOption[]>> = {
  'mdata-get': [{ flag: '--token', value: null }],
  'mdata-put': [{ flag: '--if', value: '' }],
  'mdata-list': [],
  'mdata-delete': [{ flag: '--if', value: '' }],
  'mdata-watch': [
    { flag: '-t', value: '' },
    { flag: '--once', value: null },
  ],
  'mdata-dump': [{ flag: '--sdc', value: null }],
};

/** The guests' commands, which read their options themselves. */
export const MDATA_PROGRAMS: readonly Completed[] = Object.entries(MDATA_OPTIONS).map(
  ([name, own]) => ({
    name,
    options: [
      ...own,
      { flag: '--socket', value: 'file' },
      { flag: '--timeout', value: '' },
      { flag: '--version', value: null },
      { flag: '--help', value: null },
    ],
    operand:
      name === 'mdata-get'
        ? 'sdc:uuid sdc:alias sdc:hostname sdc:nics user-script root_authorized_keys'
        : '',
    subcommands: [],
  }),
);

/** A program of commander's. @param words more words, by `COMMAND ARGUMENT`, for what takes other words too */
export function completed(
  program: Command,
  words: Readonly<Record<string, readonly string[]>> = {},
): Completed {
  const subcommands = program.commands.map((command) => ({
    name: command.name(),
    options: optionsOf(command),
    operands: command.registeredArguments.map((argument, i) => {
      const more = [
        ...(words[`${command.name()} ${argument.name()}`] ?? []),
        ...(i === 0 ? command.commands.map((inner) => inner.name()) : []),
      ];
      return [wordsOf(argument), ...more].join(' ').trim();
    }),
  }));
  return { name: program.name(), options: optionsOf(program), operand: '', subcommands };
}

/** The options of a command and of the commands in it, and --help, which commander has of itself. */
function optionsOf(command: Command): CompletedOption[] {
  const own = command.options.filter(({ long, hidden }) => long !== undefined && !hidden);
  return [
    ...own.map((option) => ({
      flag: option.long ?? '',
      value: option.required || option.optional ? wordsOf(option) : null,
    })),
    ...command.commands.flatMap((inner) => (command.parent === null ? [] : optionsOf(inner))),
    { flag: '--help', value: null },
  ];
}

function wordsOf(place: Argument | Option): string {
  if (place.argChoices !== undefined) {
    return place.argChoices.join(' ');
  }
  const name = place instanceof Argument ? place.name() : /<(\w+)/.exec(place.flags)?.[1];
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

/** The script to be sourced. */
export function completionScript(programs: readonly Completed[], shell: Shell = 'bash'): string {
  const head =
    shell === 'zsh' ? ['autoload -U +X compinit bashcompinit && compinit -u && bashcompinit'] : [];
  return [...head, PREAMBLE, ...programs.map(functionOf)].join('\n');
}

const PREAMBLE = `# completion of mdatad's commands; from ~/.bashrc or ~/.zshrc: source <(mdatactl completion SHELL)
_mdatad_zones() {
	local root=\${MDATAD_ROOT:-/} i
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ \${COMP_WORDS[i]} == --root ]] && root=\${COMP_WORDS[i + 1]}
	done
	grep -v '^#' "\${root%/}/etc/zones/index" 2>/dev/null | cut -d: -f1 | grep -vx global
}

# _mdatad_words [KIND] WORDS...: fills COMPREPLY for the word under the cursor
_mdatad_words() {
	local word=\${COMP_WORDS[COMP_CWORD]}
	case "$1" in
	zone) COMPREPLY=($(compgen -W "$(_mdatad_zones) \${*:2}" -- "$word")) ;;
	file) COMPREPLY=($(compgen -f -- "$word")) ;;
	directory) COMPREPLY=($(compgen -d -- "$word")) ;;
	*) COMPREPLY=($(compgen -W "$*" -- "$word")) ;;
	esac
}

# _mdatad_operand VALUED-OPTIONS: sets subcommand, and operands to how many stand before the cursor
_mdatad_operand() {
	local i
	subcommand='' operands=0
	for ((i = 1; i < COMP_CWORD; i++)); do
		case "\${COMP_WORDS[i]}" in
		-*) [[ " $1 " == *" \${COMP_WORDS[i]} "* ]] && ((i++)) ;;
		*)
			((operands++ == 0)) && subcommand=\${COMP_WORDS[i]}
			;;
		esac
	done
	return 0
}
`;

function functionOf(program: Completed): string {
  const { name, subcommands, operand } = program;
  const valued = [program, ...subcommands].flatMap((each) =>
    each.options.flatMap(({ flag, value }) =>
      value === null ? [] : [{ flag, words: value, of: each === program ? '*' : each.name }],
    ),
  );
  const label = `_mdatad_${name.replace(/-/g, '_')}`;
  const operands = subcommands.flatMap((command) =>
    command.operands.flatMap((words, i) =>
      words === '' ? [] : [`\t${i + 1}${command.name}) _mdatad_words ${words} ;;`],
    ),
  );
  return [
    `${label}() {`,
    '\tlocal subcommand operands previous=${COMP_WORDS[COMP_CWORD - 1]}',
    '\tCOMPREPLY=()',
    `\t_mdatad_operand "${[...new Set(valued.map(({ flag }) => flag))].join(' ')}"`,
    '\tcase "$subcommand $previous" in',
    ...valued.map(({ flag, words, of }) => {
      return `\t${of}" "${flag}) ${words === '' ? ':' : `_mdatad_words ${words}`}; return ;;`;
    }),
    '\tesac',
    '\tif [[ ${COMP_WORDS[COMP_CWORD]} == -* ]]; then',
    '\t\tcase "$subcommand" in',
    ...subcommands.map((command) => `\t\t${command.name}) _mdatad_words ${flagsOf(command)} ;;`),
    `\t\t*) _mdatad_words ${flagsOf(program)} ;;`,
    '\t\tesac',
    '\t\treturn',
    '\tfi',
    '\tcase "$operands$subcommand" in',
    `\t0*) _mdatad_words ${[operand, ...subcommands.map((command) => command.name)].join(' ').trim()} ;;`,
    ...operands,
    '\tesac',
    '}',
    `complete -F ${label} ${name}`,
    '',
  ].join('\n');
}

function flagsOf({ options }: { readonly options: readonly CompletedOption[] }): string {
  return [...new Set(options.map(({ flag }) => flag))].join(' ');
}
