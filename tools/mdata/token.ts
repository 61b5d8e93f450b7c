/* The options of the mdata programs that have to do with tokens. */
import type { ToolOption } from './arguments';

export const TOKEN: ToolOption = {
  flag: '--token',
  help: "print the key's token, for --if, not its value",
};

export const ONLY_IF: ToolOption = {
  flag: '--if',
  value: 'TOKEN',
  help: 'only if the key still has this token (-: only if it does not exist)',
};

/** What of a command the option makes. */
export function conditionOf(options: ReadonlyMap<string, string>): { readonly onlyIf?: string } {
  const onlyIf = options.get(ONLY_IF.flag);
  return onlyIf === undefined ? {} : { onlyIf };
}
