/*
 * Puts a program of the node where the platform has it: a small script that names this build and this root.
 */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * @param path where the platform has it
 * @param program the file of this folder that it runs, compiled: `vmadm.js`
 * @param root the node that it works on
 */
export function installProgram(path: string, program: string, root: string): void {
  const words = [process.execPath, join(__dirname, program)].map(quoted).join(' ');
  writeFileSync(
    path,
    `#!/bin/sh\nSIMCN_ROOT=${quoted(root)}\nexport SIMCN_ROOT\nexec ${words} "$@"\n`,
  );
  chmodSync(path, 0o755);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
