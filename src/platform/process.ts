/*
 * This process as Node and V8 keep it: no inspector for a signal, and the room for what the start makes. To be loaded
 * before all else: both take effect by that.
 */
import { setFlagsFromString, takeCoverage } from 'node:v8';
import { loadAddon } from './addon';

// Unless somebody listens for SIGUSR1, Node starts its inspector on it, which runs whatever code it is sent. The
// service's start method says --disable-sigusr1 as well where Node knows it, for the time until this line runs.
process.on('SIGUSR1', () => undefined);

// Nearly all that a start makes stays. V8 takes that for a busy program and widens the room for young objects from 2 to
// 32 MiB, which an idle agent then keeps for good: as much as 2,000 zones weigh. Under load it grows as ever.
setFlagsFromString('--semi-space-growth-factor=1');

/** The start is over. */
export function letHeapGrow(): void {
  setFlagsFromString('--semi-space-growth-factor=2');
}

/**
 * Ends the process here and now: no handler runs, nothing is written out. `process.exit` waits until each thread of
 * the pool is done. The kernel waits as well, but only for a thread in a call that no signal ends, as one on a hung
 * disk: before that returns no descriptor is closed and no lock released (exit.c, proc_exit, exitlwps), so an agent
 * that is started meanwhile finds the node's lock held.
 */
export function exitAtOnce(code: number): never {
  // Only where NODE_V8_COVERAGE is set: a test run wants to know what ran.
  takeCoverage();
  return loadAddon().exitProcess(code);
}
