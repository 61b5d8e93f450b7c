/*
 * The end of the process that waits for nothing.
 *
 * `process.exit` waits for each thread of the pool to be through with what it does. One that waits for a hung
 * disk may never be, and the service could neither be stopped nor started anew.
 */
import { takeCoverage } from 'node:v8';
import { libc } from './ffi-library';

/** What waits for a file, by node's own name for it. Writes of the log are others, and are not meant. */
const FILE_REQUEST = 'FSReqPromise';

/** Whether node:fs has work on files that has not ended. The writer of metadata has its own: the agent knows. */
export function filesHang(): boolean {
  return process.getActiveResourcesInfo().includes(FILE_REQUEST);
}

/** Ends the process here and now: no handler runs, no thread is waited for, nothing is written out. */
export function exitAtOnce(code: number): void {
  // Only where NODE_V8_COVERAGE is set: a test run wants to know what ran.
  takeCoverage();
  libc()._exit(code);
}
