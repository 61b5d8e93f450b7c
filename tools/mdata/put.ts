#!/usr/bin/env node
/*
 * mdata-put: sets a metadata key, to a value given as an operand or else read from stdin to its end.
 */
import { buffer } from 'node:stream/consumers';
import { conditionOf, ONLY_IF } from './arguments';
import { metadataFor, operand, runTool } from './tool';

void runTool({
  name: 'mdata-put',
  summary: 'Sets a metadata key.',
  operands: 'KEY [VALUE]',
  least: 1,
  options: [ONLY_IF],
  help: 'Without a value, all of stdin is the value, a final newline included. Values are UTF-8.',
  command: async (operands, options) => ({
    kind: 'put',
    key: operand(operands, 0),
    value: operands.length > 1 ? operand(operands, 1) : await buffer(process.stdin),
    ...conditionOf(options),
  }),
  found: () => undefined,
  wanted: metadataFor,
});
