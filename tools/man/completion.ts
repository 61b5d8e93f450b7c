/*
 * Renders the shell completion of all commands from the same descriptions as their manual pages. Pure.
 *
 * Needs nothing but the shell (SmartOS has no bash-completion); zsh takes bash's completions through its own
 * bashcompinit. Zones are completed from the node's own list, /etc/zones/index below the --root that stands on
 * the line.
 */
import type { ManCommand, Option, Words } from './command';

export const SHELLS = ['bash', 'zsh'] as const;
export type Shell = (typeof SHELLS)[number];

/** The whole script of a shell, for all commands. */
export function completionScript(commands: readonly ManCommand[], shell: Shell = 'bash'): string {
  const parts = commands.map((command) => functionOf(command));
  const head =
    shell === 'zsh' ? ['autoload -U +X compinit bashcompinit && compinit -u && bashcompinit'] : [];
  return [...head, PREAMBLE, ...parts].join('\n');
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

function functionOf(command: ManCommand): string {
  const { name, subcommands = [] } = command;
  const all = [...command.options, ...subcommands.flatMap((sub) => sub.options ?? [])];
  const valued = unique(all.filter((o) => o.value !== undefined));
  const lines = [
    `_mdatad_${name.replace(/-/g, '_')}() {`,
    '\tlocal subcommand operands previous=${COMP_WORDS[COMP_CWORD - 1]}',
    '\tCOMPREPLY=()',
    '\tcase "$previous" in',
    ...valued.map((o) => `\t${o.flag}) ${fill(o.words)}; return ;;`),
    '\tesac',
    `\t_mdatad_operand "${valued.map((o) => o.flag).join(' ')}"`,
    '\tif [[ ${COMP_WORDS[COMP_CWORD]} == -* ]]; then',
    ...flagLines(command),
    '\t\treturn',
    '\tfi',
    ...operandLines(command),
    '}',
    `complete -F _mdatad_${name.replace(/-/g, '_')} ${name}`,
    '',
  ];
  return lines.join('\n');
}

function flagLines({ options, subcommands = [] }: ManCommand): string[] {
  const own = options.map((o) => o.flag);
  const cases = subcommands
    .filter((sub) => sub.options !== undefined)
    .map((sub) => {
      const flags = [...own, ...(sub.options ?? []).map((o) => o.flag)];
      return `\t\t${sub.name}) _mdatad_words ${flags.join(' ')} ;;`;
    });
  return [
    '\t\tcase "$subcommand" in',
    ...cases,
    `\t\t*) _mdatad_words ${own.join(' ')} ;;`,
    '\t\tesac',
  ];
}

function operandLines({ subcommands, words }: ManCommand): string[] {
  if (subcommands === undefined) {
    return words === undefined ? [] : [`\t((operands == 0)) && ${fill(words)}`, '\treturn 0'];
  }
  const cases = subcommands
    .filter((sub) => sub.words !== undefined)
    .map((sub) => `\t1${sub.name}) ${[fill(sub.words), ...(sub.orWords ?? [])].join(' ')} ;;`);
  const seconds = subcommands
    .filter((sub) => sub.thenWords !== undefined)
    .map((sub) => `\t2${sub.name}) ${fill(sub.thenWords)} ;;`);
  const names = subcommands.map((sub) => sub.name).join(' ');
  return [
    '\tcase "$operands$subcommand" in',
    `\t0*) _mdatad_words ${names} ;;`,
    ...cases,
    ...seconds,
    '\tesac',
  ];
}

function fill(words: Words | undefined): string {
  if (words === undefined) {
    return ':';
  }
  return `_mdatad_words ${typeof words === 'string' ? words : words.join(' ')}`;
}

function unique(options: readonly Option[]): Option[] {
  return options.filter((o, i) => options.findIndex((other) => other.flag === o.flag) === i);
}
