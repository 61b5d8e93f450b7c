/*
 * preflight --root DIR [--override CHECK,CHECK...] MDATACTL: runs `mdatactl preflight --json` and says what came of
 * it, for the install script. Exit 0 when nothing fails but what is overridden, 1 otherwise.
 *
 * Knows only the form of the report: which checks there are and what they do is for mdatactl to say. "preflight"
 * as an override skips them all.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { list, members, number, oneOf, text } from '../../src/lib/json-reader';

/** It promises 30 s. */
const MOST_MS = 120_000;

const readReport = members({
  checks: list(
    members({
      name: text(),
      verdict: oneOf(['ok', 'warn', 'fail']),
      expected: text(),
      seen: text(),
      remedy: text(),
    }),
  ),
  elapsed_ms: number(0, Infinity),
});

type Checks = ReturnType<typeof readReport>['checks'];

function main(): number {
  const { values, positionals } = parseArgs({
    options: { root: { type: 'string' }, override: { type: 'string' } },
    allowPositionals: true,
  });
  const overrides = new Set((values.override ?? '').split(',').filter((name) => name !== ''));
  if (overrides.has('preflight')) {
    say('skipped (--override preflight)');
    return 0;
  }
  const [mdatactl = ''] = positionals;
  const argv = [mdatactl, '--root', values.root ?? '/', 'preflight', '--json'];
  const { stdout, stderr } = spawnSync(process.execPath, argv, {
    encoding: 'utf8',
    timeout: MOST_MS,
  });
  const checks = parseReport(stdout);
  if (checks === undefined) {
    say(`no report: ${stderr.trim() || 'mdatactl preflight said nothing'}`);
    return 1;
  }
  for (const check of checks.filter(({ verdict }) => verdict !== 'ok')) {
    const { name, verdict, expected, seen, remedy } = check;
    const overridden = verdict === 'fail' && overrides.has(name) ? ' (overridden)' : '';
    say(`${name}: ${verdict}${overridden}: expected ${expected}, seen ${seen}; ${remedy}`);
  }
  for (const name of [...overrides].filter(
    (known) => !checks.some((check) => check.name === known),
  )) {
    say(`--override ${name}: there is no such check`);
    return 1;
  }
  const failed = checks.filter(({ name, verdict }) => verdict === 'fail' && !overrides.has(name));
  say(`${checks.length} checks, ${failed.length} failed`);
  return failed.length === 0 ? 0 : 1;
}

function parseReport(json: string): Checks | undefined {
  try {
    return readReport(JSON.parse(json)).checks;
  } catch {
    return undefined; // It did not come to a report; its stderr says why.
  }
}

function say(line: string): void {
  process.stdout.write(`preflight: ${line}\n`);
}

process.exitCode = main();
