/* All byte-level targets, by name. */
import { answer } from './targets/answer';
import { client } from './targets/client';
import { frame } from './targets/frame';
import { lines } from './targets/lines';
import { metadataEdit } from './targets/metadata-edit';
import { parse } from './targets/parse';
import { readyLine } from './targets/ready-line';
import { routes } from './targets/routes';
import { serial } from './targets/serial';
import { session } from './targets/session';
import { tokens } from './targets/tokens';
import type { Target } from './target';

export const TARGETS: readonly Target[] = [
  lines,
  parse,
  frame,
  serial,
  session,
  answer,
  routes,
  metadataEdit,
  readyLine,
  client,
  tokens,
];

/** Undefined where no target has the name. */
export function findTarget(name: string): Target | undefined {
  return TARGETS.find((target) => target.name === name);
}
