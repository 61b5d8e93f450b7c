/* The version of this build, from the package that it is part of. Printed by every program. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Below dist/src/lib, three up. */
const PACKAGE = join(__dirname, '..', '..', '..', 'package.json');

/** `0.1.0`; `unknown` for a build that was taken out of its package. */
export function packageVersion(path = PACKAGE): string {
  try {
    const json: unknown = JSON.parse(readFileSync(path, 'utf8'));
    const isNamed = typeof json === 'object' && json !== null && 'version' in json;
    return isNamed && typeof json.version === 'string' ? json.version : 'unknown';
  } catch {
    // Whoever runs it so knows what it is.
    return 'unknown';
  }
}
