/*
 * This process as Node and the kernel see it: how V8 keeps what the start makes, and an end that waits for
 * nothing. To be loaded before all else, as the first takes effect by that.
 */
import { setFlagsFromString, takeCoverage } from 'node:v8';

// Nearly all that a start makes stays, and none of it is asked for twice. V8 takes that for a busy program
// and widens the room for young objects from 2 to 32 MiB, which an idle agent then keeps for good: as much
// as 2,000 zones weigh. So the room is kept as it is until the start is over; under load it grows as ever.
setFlagsFromString('--semi-space-growth-factor=1');

import { libc } from './ffi';

/** The start is over. */
export function letHeapGrow(): void {
  setFlagsFromString('--semi-space-growth-factor=2');
}

/**
 * Ends the process here and now: no handler runs, nothing is written out. `process.exit` waits for each
 * thread of the pool; one that waits for a hung disk may never be done, and the service could neither be
 * stopped nor started anew.
 */
export function exitAtOnce(code: number): never {
  // Only where NODE_V8_COVERAGE is set: a test run wants to know what ran.
  takeCoverage();
  libc()._exit(code);
  throw new Error('the process goes on after its end');
}
