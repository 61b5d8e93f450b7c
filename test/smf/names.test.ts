/* The words by which pages and hints name the services to svcadm, svcs and svccfg: each has to mean one instance. */
import assert from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { TOP } from '../support/manifest';
import { MDATAD, PLATFORM_AGENT, STAND_IN, TAKEOVER, ZONES } from '../support/node-root';

/** Those of a node with mdatad that have such a name. */
const INSTANCES = [MDATAD, TAKEOVER, PLATFORM_AGENT, STAND_IN, ZONES];
const COMMAND =
  /\b(?:svcadm (?:enable|disable|restart|refresh|clear)|svcs -\w+|svccfg -s) (?:-s )?([\w:/-]*(?:mdatad|metadata|zones)[\w:/-]*)/g;

/** As scf_cmp_pattern in usr/src/lib/libscf/common/lowlevel.c of illumos takes a name without wildcards. */
function matches(fmri: string, name: string): boolean {
  const at = fmri.indexOf(name);
  if (at === -1) {
    return false;
  }
  const end = at + name.length;
  const beginsElement = at === 0 || '/:'.includes(fmri.charAt(at - 1)) || name.startsWith(':');
  const endsElement = end === fmri.length || fmri.charAt(end) === ':' || name.endsWith(':');
  return beginsElement && endsElement && end > 4;
}

/** Every name in a command of a page or a program. */
function namesInUse(): string[] {
  const files = ['src', 'tools', 'smf'].flatMap((directory) =>
    readdirSync(join(TOP, directory), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|md|yml|8|sh|svccfg)$/.test(name))
      .map((name) => join(TOP, directory, name)),
  );
  return [...files, join(TOP, 'README.md')].flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(COMMAND)].map(([, name = '']) => name),
  );
}

describe('the names of the services', () => {
  it('mean one instance each, in every command that a page or a hint shows', () => {
    const names = new Set(namesInUse());
    // The page says itself that this one means two.
    assert(names.delete('metadata'));
    assert(names.has('mdatad') && names.has('mdatad-takeover') && names.has(PLATFORM_AGENT));
    for (const name of names) {
      const meant = INSTANCES.filter((fmri) => matches(fmri, name));
      assert.strictEqual(meant.length, 1, `${name} means ${meant.join(' and ')}`);
    }
  });

  it('would mean two if the stand-in had the name of the service', () => {
    const former = 'svc:/system/smartdc/metadata:mdatad';
    assert.deepStrictEqual(
      [MDATAD, former].map((fmri) => matches(fmri, 'mdatad')),
      [true, true],
    );
    assert(!matches(TAKEOVER, 'mdatad'));
  });
});
