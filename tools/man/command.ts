/*
 * What a manual page and the shell's completion are both made of: the description of one command.
 *
 * The descriptions are in pages/. Text may hold two marks: `literal` for what is typed as it is, and
 * _name_ for what the user puts something in for.
 */

/** What may stand in a place, for the shell to complete. */
export type Words = 'zone' | 'file' | 'directory' | readonly string[];

export interface Option {
  readonly flag: string;
  /** The name of its value, if it takes one. */
  readonly value?: string;
  readonly words?: Words;
  readonly text: string;
}

export interface Subcommand {
  readonly name: string;
  /** What follows the name, as in a synopsis: `[UUID]`. */
  readonly operands: string;
  /** For the first operand. */
  readonly words?: Words;
  /** What may stand in its place as well. */
  readonly orWords?: readonly string[];
  /** For the second operand. */
  readonly thenWords?: readonly string[];
  readonly options?: readonly Option[];
  readonly text: string;
}

/** A term and what is said of it. */
export type Entry = readonly [term: string, text: string];

export type Block =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | { readonly kind: 'example'; readonly text: string; readonly lines: readonly string[] };

export interface Section {
  readonly title: string;
  readonly blocks: readonly Block[];
}

export interface ManCommand {
  readonly name: string;
  readonly section: 1 | 8;
  readonly summary: string;
  /** What follows the name, a line each. */
  readonly synopsis: readonly string[];
  readonly description: readonly string[];
  readonly options: readonly Option[];
  readonly subcommands?: readonly Subcommand[];
  /** For the first operand of a command without subcommands. */
  readonly words?: Words;
  readonly sections: readonly Section[];
  readonly exit: readonly Entry[];
  readonly seeAlso: readonly string[];
}

/** A section that is a list of terms and what they mean. */
export function entries(title: string, list: readonly Entry[]): Section {
  return { title, blocks: [{ kind: 'entries', entries: list }] };
}

export const ROOT_OPTION: Option = {
  flag: '--root',
  value: 'DIR',
  words: 'directory',
  text: 'The root of the compute node; every path named here is below it. Default: `/` on SmartOS, none elsewhere.',
};

export const JSON_OPTION: Option = {
  flag: '--json',
  text: 'Prints JSON, for scripts.',
};

export const VERSION_OPTION: Option = { flag: '--version', text: 'Prints the version and ends.' };

export const HELP_OPTION: Option = {
  flag: '--help',
  text: 'Prints a short summary and ends.',
};
