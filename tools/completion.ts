/*
 * The completion for a shell, of the definitions in completed.ts: what `mdatactl completion` and `simcn completion`
 * print. Pure. Here is bash's; zsh's is in zsh-completion.ts.
 *
 * Needs nothing but the shell (SmartOS has no bash-completion). Zones are completed from the node's own list,
 * /etc/zones/index below the --root that stands on the line.
 */
import type { Completed, CompletedOption } from './completed';
import { zshScript } from './zsh-completion';

export const SHELLS = ['bash', 'zsh'] as const;
export type Shell = (typeof SHELLS)[number];

/** The script to be sourced. */
export function completionScript(programs: readonly Completed[], shell: Shell = 'bash'): string {
  return shell === 'zsh' ? zshScript(programs) : [PREAMBLE, ...programs.map(functionOf)].join('\n');
}

const PREAMBLE = `# completion of mdatad's commands; in ~/.bashrc: source <(mdatactl completion bash)
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
	list) # names between commas, of which the last is completed; - or + before it stays
		local last=\${word##*,}
		[[ $last == [-+]* ]] && last=\${last:1}
		COMPREPLY=($(compgen -P "\${word%"$last"}" -W "\${*:2}" -- "$last"))
		;;
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
  const { name, subcommands, operands: own } = program;
  const valued = [program, ...subcommands].flatMap((each) =>
    each.options.flatMap(({ flag, short, value }) =>
      value === null
        ? []
        : [flag, ...(short === null ? [] : [short])].map((spelling) => {
            return { flag: spelling, words: value.words, of: each === program ? '*' : each.name };
          }),
    ),
  );
  const label = `_mdatad_${name.replace(/-/g, '_')}`;
  const operands = subcommands.flatMap((command) =>
    command.operands.flatMap(({ words }, i) =>
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
    `\t0*) _mdatad_words ${[...own.map(({ words }) => words), ...subcommands.map((command) => command.name)].join(' ').trim()} ;;`,
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
