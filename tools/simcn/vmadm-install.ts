/*
 * Puts the node's vmadm where the platform has it: a small script that names this build and this root.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Paths } from '../../src/sys/paths';

/** Puts `vmadm` where the platform has it; its root is the node's. */
export function installVmadm(paths: Paths): void {
  const program = join(__dirname, 'vmadm.js');
  const words = [process.execPath, program].map(quoted).join(' ');
  writeFileSync(
    paths.vmadm,
    `#!/bin/sh\nSIMCN_ROOT=${quoted(paths.root)}\nexport SIMCN_ROOT\nexec ${words} "$@"\n`,
  );
  chmodSync(paths.vmadm, 0o755);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
