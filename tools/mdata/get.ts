#!/usr/bin/env node
/*
 * mdata-get: prints the value of a metadata key.
 */
import { TOKEN } from './arguments';
import { metadataFor, NEWLINE, operand, runTool } from './tool';

void runTool({
  name: 'mdata-get',
  summary: 'Prints the value of a metadata key.',
  operands: 'KEY',
  least: 1,
  options: [TOKEN],
  help: 'Keys that begin with sdc: tell of the VM itself: sdc:uuid, sdc:nics, sdc:image_uuid ...',
  command: (operands, options) => {
    const key = operand(operands, 0);
    return options.has(TOKEN.flag)
      ? { kind: 'watch', seconds: 1, token: '-', keys: [key] }
      : { kind: 'get', key };
  },
  found: (data) => {
    process.stdout.write(data.at(-1) === NEWLINE[0] ? data : Buffer.concat([data, NEWLINE]));
  },
  wanted: metadataFor,
});
