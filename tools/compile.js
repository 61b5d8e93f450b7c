/*
 * npm run build:ts: compiles src, tools and test with the native compiler, TypeScript 7, which takes a quarter of
 * the time. Where that has no binary for this platform, or one that does not run, TypeScript 6, which lint needs in
 * any case, does it instead. The daemon is made one file then (tools/bundle.js). With --project
 * tsconfig.programs.json, as the set-up of a quickstart calls it, test is left out.
 */
'use strict';
const { spawnSync } = require('node:child_process');
const { existsSync } = require('node:fs');
const { join } = require('node:path');
const { bundle } = require('./bundle');

const TOP = join(__dirname, '..');
/** For the native compiler: it ends before its garbage is worth collecting often. */
const GOGC = '400';

function programOf(compiler) {
  return join(TOP, 'node_modules', compiler, 'bin', 'tsc');
}

/** Whether the native compiler can be run: a binary may want a newer system than this, or another machine. */
function nativeRuns() {
  const argv = [programOf('typescript7'), '--version'];
  return spawnSync(process.execPath, argv, { stdio: 'ignore' }).status === 0;
}

/** The package of the compiler to use. */
function compilerOf(platform, arch, runs = nativeRuns) {
  try {
    require.resolve(`@typescript/typescript-${platform}-${arch}/package.json`);
  } catch {
    return 'typescript'; // No native compiler was published, or installed, for this platform.
  }
  return runs() ? 'typescript7' : 'typescript';
}

if (require.main === module) {
  const tsc = programOf(compilerOf(process.platform, process.arch));
  if (!existsSync(tsc)) {
    process.stderr.write(
      'compile: TypeScript 7 does not run here, and TypeScript 6 is not installed: npm run setup installs it\n',
    );
    process.exit(1);
  }
  const argv = [tsc, ...process.argv.slice(2)];
  const env = { GOGC, ...process.env };
  const { status } = spawnSync(process.execPath, argv, { stdio: 'inherit', cwd: TOP, env });
  process.exitCode = status ?? 1;
  if (status === 0) {
    void bundle().then(() => require('./mark-bins.js'));
  }
}
module.exports = { compilerOf };
