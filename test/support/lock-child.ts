/*
 * A process that takes a file's lock as the platform's VM tool does, and holds it.
 *
 *   node lock-child.js PATH [HOLD_MS]
 *
 * Prints `held` when it has the lock; ends after HOLD_MS (at once by default).
 */
import { takeLock } from '../../src/platform/lock';

const [path = '', releaseAfterMs = '0'] = process.argv.slice(2);

void takeLock(path, { timeoutMs: 20_000 }).then((lock) => {
  process.stdout.write('held\n');
  setTimeout(() => lock.release(), Number(releaseAfterMs));
});
