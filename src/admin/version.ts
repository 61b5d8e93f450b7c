/* The version of this build, from the package that it is part of. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownString, parseJsonObject } from '../metadata/vm-data';

/** Below dist/src/admin, three up. */
const PACKAGE = join(__dirname, '..', '..', '..', 'package.json');

/** `0.1.0`; `unknown` for a build that was taken out of its package. */
export function packageVersion(path = PACKAGE): string {
  try {
    const json = parseJsonObject(readFileSync(path, 'utf8'));
    return (json === undefined ? undefined : ownString(json, 'version')) ?? 'unknown';
  } catch {
    // Whoever runs it so knows what it is.
    return 'unknown';
  }
}
