/*
 * npm run build:ts: compiles src, tools and test with the native compiler, TypeScript 7, which takes a quarter of
 * the time. Where that has no binary for this platform, TypeScript 6, which lint needs in any case, does it instead.
 * The daemon is made one file then (tools/bundle.js). With --project tsconfig.programs.json, as the set-up of a quickstart calls it, test is left out.
 */
'use strict';
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');
const { bundle } = require('./bundle');

const TOP = join(__dirname, '..');
/** For the native compiler: it ends before its garbage is worth collecting often. */
const GOGC = '400';

/** The package of the compiler to use. */
function compilerOf(platform, arch) {
  try {
    require.resolve(`@typescript/typescript-${platform}-${arch}/package.json`);
    return 'typescript7';
  } catch {
    return 'typescript'; // No native compiler was published, or installed, for this platform.
  }
}

if (require.main === module) {
  const compiler = compilerOf(process.platform, process.arch);
  const tsc = join(TOP, 'node_modules', compiler, 'bin', 'tsc');
  const argv = [tsc, ...process.argv.slice(2)];
  const env = { GOGC, ...process.env };
  const { status } = spawnSync(process.execPath, argv, { stdio: 'inherit', cwd: TOP, env });
  process.exitCode = status ?? 1;
  if (status === 0) {
    void bundle().then(() => require('./mark-bins.js'));
  }
}
module.exports = { compilerOf };
