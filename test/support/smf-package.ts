/*
 * Packages for the tests of the install scripts: made by the real `package` program from this checkout,
 * with a daemon of a few lines in place of the real one, so that it can be made to fail.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TOP } from './manifest';

/** The directory that tsc wrote to: the one that this file runs from. */
export const BUILT = resolve(__dirname, '..', '..');

/** What the daemon of a package does. */
export type Behaviour =
  | 'serve'
  | 'end at once'
  | 'never be well'
  | 'refuse the configuration'
  | 'answer as another process';

export interface Package {
  readonly unpacked: string;
  readonly tarball: string;
}

/** Makes a package with the real daemon, or a stand-in, and unpacks it below `directory`. */
export function makePackage(
  directory: string,
  daemonIs: 'real' | 'stand-in' = 'stand-in',
): Package {
  const top = join(directory, 'checkout');
  mkdirSync(join(top, 'dist'), { recursive: true });
  for (const part of ['src', 'tools']) {
    cpSync(join(BUILT, part), join(top, 'dist', part), { recursive: true });
  }
  for (const part of ['native', 'node_modules', 'smf', 'tools']) {
    symlinkSync(join(TOP, part), join(top, part));
  }
  for (const part of ['package.json', 'package-lock.json', 'LICENSE']) {
    cpSync(join(TOP, part), join(top, part));
  }
  if (daemonIs === 'stand-in') {
    writeFileSync(join(top, 'package-lock.json'), JSON.stringify({ packages: fewModules() }));
    writeFileSync(join(top, 'dist/src/bundle/mdatad.js'), daemon('serve'));
    mkdirSync(join(top, 'dist/tools/mdatactl'), { recursive: true });
    writeFileSync(join(top, 'dist/tools/mdatactl/main.js'), mdatactl([]));
  }
  execFileSync(process.execPath, [
    join(BUILT, 'tools/package.js'),
    ...['--top', top],
    ...['--out', directory],
  ]);
  const tarball = join(directory, `${baseName()}.tgz`);
  execFileSync('tar', ['xzf', tarball, '-C', directory]);
  return { unpacked: join(directory, baseName()), tarball };
}

/** Of a package made here: its file without the ending, and the directory in it. */
export function baseName(): string {
  const { version } = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as {
    version: string;
  };
  const { platform, arch, versions } = process;
  return `mdatad-${version}-${platform}-${arch}-abi${versions.modules}`;
}

export interface Check {
  readonly name: string;
  readonly verdict: 'ok' | 'warn' | 'fail';
}

/** Makes `mdatactl preflight` of an unpacked package report these checks. */
export function reportPreflight(unpacked: string, checks: readonly Check[]): void {
  writeFileSync(join(unpacked, 'dist/tools/mdatactl/main.js'), mdatactl(checks));
}

function mdatactl(checks: readonly Check[]): string {
  const report = checks.map(({ name, verdict }) => ({
    ...{ name, verdict, expected: `${name} works` },
    ...{ seen: `${name} ${verdict}`, remedy: `mend ${name}` },
  }));
  const worst = report.some(({ verdict }) => verdict === 'fail') ? 2 : 0;
  return `
const preflight = process.argv.includes('preflight') && process.argv.includes('--json');
console.log(preflight ? ${JSON.stringify(JSON.stringify({ checks: report, elapsed_ms: 1 }))} : 'mdatactl of the package');
process.exitCode = preflight ? ${worst} : 0;
`;
}

/** Of the daemon's packages those that the scripts themselves need: copying all of them takes long. */
function fewModules(): object {
  const lock = JSON.parse(readFileSync(join(TOP, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, object>;
  };
  const wanted = /^node_modules\/(commander|ffi-napi|@2060|ref-|debug|ms|get-|node-)/;
  return Object.fromEntries(Object.entries(lock.packages).filter(([path]) => wanted.test(path)));
}

/** Another release of the same package, with a daemon that behaves so. Returns its directory. */
export function otherRelease(
  unpacked: string,
  id: string,
  behaviour: Behaviour | 'as it is',
): string {
  const directory = `${unpacked}-${id}`;
  cpSync(unpacked, directory, { recursive: true, verbatimSymlinks: true });
  const release = readFileSync(join(directory, 'RELEASE'), 'utf8');
  writeFileSync(join(directory, 'RELEASE'), release.replace(/^id=.*/m, `id=${id}`));
  if (behaviour !== 'as it is') {
    writeFileSync(join(directory, 'dist/src/bundle/mdatad.js'), daemon(behaviour));
  }
  return directory;
}

/** Answers /healthz and /status on the admin socket and tells its configuration, at start and on SIGHUP. */
function daemon(behaviour: Behaviour): string {
  return `
const { readFileSync, rmSync } = require('node:fs');
const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const behaviour = ${JSON.stringify(behaviour)};
if (process.argv.includes('--check-config')) {
  process.exit(behaviour === 'refuse the configuration' ? 96 : 0);
}
if (behaviour === 'end at once') {
  process.exit(95);
}
const serves = !['end at once', 'never be well'].includes(behaviour);
if (behaviour === 'serve') {
  // As a vmadm at work: outlives the daemon unless somebody kills it.
  const child = require('node:child_process').spawn('sleep', ['300'], { stdio: 'ignore' });
  require('node:fs').writeFileSync(option('--root') + '/var/run/mdatad/child.pid', String(child.pid));
  process.on('exit', () => process.exitCode === 0 && child.kill());
}
const printConfig = () => console.log('config ' + readFileSync(option('--config'), 'utf8').trim());
const socket = option('--root') + '/var/run/mdatad/admin.sock';
rmSync(socket, { force: true });
require('node:http')
  .createServer((request, response) => {
    const pid = process.pid + (behaviour === 'answer as another process' ? 1 : 0);
    const answers = { '/healthz': 'ok', '/status': JSON.stringify({ pid }) };
    response.writeHead(serves ? 200 : 503).end(serves ? answers[request.url] : 'no zone has its socket yet');
  })
  .listen(socket, printConfig);
process.on('SIGHUP', printConfig);
process.on('SIGTERM', () => {
  console.log('SIGTERM');
  process.exit((process.exitCode = 0));
});
`;
}
