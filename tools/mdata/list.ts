#!/usr/bin/env node
/*
 * mdata-list: prints the names of the metadata keys, one a line. Names that begin with sdc: are not
 * among them.
 */
import { NEWLINE, runTool } from './tool';

void runTool({
  name: 'mdata-list',
  summary: 'Lists the metadata keys, one a line.',
  operands: '',
  least: 0,
  help: 'Keys that begin with sdc: can be read by mdata-get but are not listed.',
  command: () => ({ kind: 'keys' }),
  found: (data) => {
    process.stdout.write(data.length === 0 ? data : Buffer.concat([data, NEWLINE]));
  },
  wanted: () => Buffer.from('metadata'),
});
