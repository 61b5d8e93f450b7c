#!/usr/bin/env node
/*
 * mdata-delete: removes a metadata key. One that is not there counts as removed.
 */
import { metadataFor, operand, runTool } from './tool';

void runTool({
  name: 'mdata-delete',
  summary: 'Removes a metadata key.',
  operands: 'KEY',
  least: 1,
  help: 'Removing a key that does not exist succeeds.',
  command: (operands) => ({ kind: 'delete', key: operand(operands, 0) }),
  found: () => undefined,
  wanted: metadataFor,
});
