#!/usr/bin/env node
/*
 * mdata-get: prints the value of a metadata key.
 */
import { metadataFor, NEWLINE, operand, runTool } from './tool';

void runTool({
  name: 'mdata-get',
  summary: 'Prints the value of a metadata key.',
  operands: 'KEY',
  least: 1,
  help: 'Keys that begin with sdc: tell of the VM itself: sdc:uuid, sdc:nics, sdc:image_uuid ...',
  command: (operands) => ({ kind: 'get', key: operand(operands, 0) }),
  found: (data) => {
    process.stdout.write(data.at(-1) === NEWLINE[0] ? data : Buffer.concat([data, NEWLINE]));
  },
  wanted: metadataFor,
});
