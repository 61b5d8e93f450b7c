#!/usr/bin/env node
/*
 * mdata-delete: removes a metadata key. One that is not there counts as removed.
 */
import { conditionOf, ONLY_IF } from './arguments';
import { metadataFor, operand, runTool } from './tool';

void runTool({
  name: 'mdata-delete',
  summary: 'Removes a metadata key.',
  operands: 'KEY',
  least: 1,
  options: [ONLY_IF],
  help: 'Removing a key that does not exist succeeds.',
  command: (operands, options) => ({
    kind: 'delete',
    key: operand(operands, 0),
    ...conditionOf(options),
  }),
  found: () => undefined,
  wanted: metadataFor,
});
