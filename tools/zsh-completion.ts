/*
 * The completion of programs for zsh, by its own completion system: subcommands, options and zones with what each of
 * them is. Made of the same definitions as bash's (completed.ts). Pure.
 */
import type { Completed, CompletedOption, Subcommand } from './completed';

/** The script to be sourced. */
export function zshScript(programs: readonly Completed[]): string {
  return [PREAMBLE, ...programs.map(functionOf)].join('\n');
}

const PREAMBLE = `# completion of mdatad's commands; in ~/.zshrc: source <(mdatactl completion zsh)
(( $+functions[compdef] )) || { autoload -U compinit && compinit -u }

# _mdatad_zones WORDS...: the node's zones, below the root that the line names, and the words
_mdatad_zones() {
	local root=\${MDATAD_ROOT:-/} name state zonepath uuid brand rest
	local at=\${mdatad_line[(I)--root]}
	local given=\${(M)mdatad_line:#--root=*}
	(( at )) && root=\${(Q)mdatad_line[at+1]}
	[[ -n $given ]] && root=\${(Q)given#--root=}
	local -a zones words=("$@")
	local index=\${root%/}/etc/zones/index
	[[ -r $index ]] && while IFS=: read -r name state zonepath uuid brand rest; do
		[[ $name == (\\#*|global|) ]] || zones+=("$name:\${brand:-zone}")
	done <$index
	_describe -t zones zone zones
	(( $#words )) && _describe -t words word words
}
`;

function functionOf(program: Completed): string {
  const { name, description, options, operands, subcommands } = program;
  const label = `_mdatad_${name.replace(/-/g, '_')}`;
  const head = [
    `# ${description}`,
    `${label}() {`,
    '\tlocal curcontext=$curcontext context state line',
    '\tlocal -A opt_args',
    '\tlocal -a mdatad_line=("${words[@]}")',
  ];
  const tail = ['}', `compdef ${label} ${name}`, ''];
  if (subcommands.length === 0) {
    return [...head, `\t${argumentsOf({ options, operands })}`, ...tail].join('\n');
  }
  return [
    ...head,
    '\tlocal -a commands=(',
    ...subcommands.map((command) => `\t\t${quoted(`${command.name}:${command.description}`)}`),
    '\t)',
    `\t_arguments -C ${[...options.flatMap(specsOf), '(-): :->command', '(-)*:: :->argument'].map(quoted).join(' ')} && return`,
    '\tcase $state in',
    '\tcommand) _describe -t commands command commands ;;',
    '\targument)',
    '\t\tcase $words[1] in',
    ...subcommands.map((command) => `\t\t${command.name}) ${argumentsOf(command)} ;;`),
    '\t\tesac',
    '\t\t;;',
    '\tesac',
    ...tail,
  ].join('\n');
}

function argumentsOf({ options, operands }: Pick<Subcommand, 'options' | 'operands'>): string {
  const places = operands.map(({ name, words }, i) => `${i + 1}:${name}:${actionOf(words)}`);
  // A command and the commands in it may have the same option.
  const specs = new Set([...options.flatMap(specsOf), ...places]);
  return `_arguments ${[...specs].map(quoted).join(' ')}`;
}

/** One for each spelling of the option. */
function specsOf({ flag, short, description, value }: CompletedOption): string[] {
  const text = `[${description.replace(/[[\]\\]/g, '\\$&')}]`;
  const action = value === null ? '' : `:${value.name}:${actionOf(value.words)}`;
  const [assigned, joined] = value === null ? ['', ''] : ['=', '+'];
  const others = short === null ? '' : `(${short} ${flag})`;
  const long = flag.startsWith('--') ? `${flag}${assigned}` : `${flag}${joined}`;
  return [
    `${others}${long}${text}${action}`,
    ...(short === null ? [] : [`${others}${short}${joined}${text}${action}`]),
  ];
}

/** @param words as `_mdatad_words` of bash takes them: a kind, or words to choose from */
function actionOf(words: string): string {
  const [kind, ...more] = words.split(' ');
  switch (kind) {
    case '':
      return ' ';
    case 'zone':
      // The blank before it keeps _arguments from adding words of its own.
      return ` ${['_mdatad_zones', ...more].join(' ')}`;
    case 'list':
      return ` _values -s , name ${more.join(' ')}`;
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    default:
      return `(${words.replace(/:/g, '\\:')})`;
  }
}

function quoted(text: string): string {
  return `'${text.replace(/'/g, "'\\''")}'`;
}
