#!/usr/bin/env node
/*
 * Starts the bundled daemon (tools/bundle.js), the file main.js beside this one, from V8's cache of it.
 *
 * The cache is written by a run of --check-config, which the start method makes before each start, with the same
 * Node: so an update of Node costs one slow start, and no daemon that serves zones writes below its own code.
 */
import './platform/process';
import { join } from 'node:path';
import { runProgram } from './platform/code-cache';

const program = runProgram(join(__dirname, 'main.js'));
if (!program.cached && process.argv.includes('--check-config')) {
  process.on('exit', () => program.keep());
}
