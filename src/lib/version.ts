/* The version of this build, which every program prints. */
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Below dist/src/lib, three up. */
const PACKAGE = join(__dirname, '..', '..', '..', 'package.json');

/** `0.1.0` */
export function packageVersion(): string {
  const json: unknown = JSON.parse(readFileSync(PACKAGE, 'utf8'));
  assert(typeof json === 'object' && json !== null && 'version' in json);
  return String(json.version);
}
