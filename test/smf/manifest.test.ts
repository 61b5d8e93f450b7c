import assert from 'node:assert';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseConfig } from '../../src/config';
import { configOf, toJson } from '../../tools/smf/properties';
import { SETTINGS } from '../../tools/smf/settings';
import { attributes, faultsOf, readManifest, TOP } from '../support/manifest';

const MDATAD_XML = join(TOP, 'smf', 'mdatad.xml');
const TAKEOVER_XML = join(TOP, 'smf', 'takeover.xml');
const PLATFORM_AGENT = 'svc:/system/smartdc/metadata:default';

const PRIVILEGES = [
  'basic',
  '!file_link_any',
  'file_dac_read',
  'file_dac_search',
  'file_dac_write',
  'file_chown',
  'file_owner',
  'sys_mount',
];

describe('the SMF manifests', () => {
  const mdatad = readManifest(MDATAD_XML);
  const takeover = readManifest(TAKEOVER_XML);
  const text = readFileSync(MDATAD_XML, 'utf8');

  it('are valid by the content model of the service_bundle DTD', () => {
    assert.strictEqual(faultsOf(MDATAD_XML), '');
    assert.strictEqual(faultsOf(TAKEOVER_XML), '');
  });

  it('would be found out if their elements were out of order', () => {
    const directory = mkdtempSync(join(tmpdir(), 'mdf-'));
    try {
      const broken = join(directory, 'broken.xml');
      const group = /<property_group name='startd'[\s\S]*?<\/property_group>/.exec(text)?.[0] ?? '';
      writeFileSync(
        broken,
        text.replace(group, '').replace('<method_context', `${group}<method_context`),
      );
      assert.match(faultsOf(broken), /does not follow the DTD/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('name the DTD where the platform has it', () => {
    const dtd = '"/usr/share/lib/xml/dtd/service_bundle.dtd.1"';
    for (const path of [MDATAD_XML, TAKEOVER_XML]) {
      assert(readFileSync(path, 'utf8').includes(`<!DOCTYPE service_bundle SYSTEM ${dtd}>`));
    }
  });

  it('explain each dependency in one sentence right above it', () => {
    const all = [...mdatad.dependencies, ...takeover.dependencies];
    assert(all.length >= 6);
    for (const { name, comment } of all) {
      assert.match(comment, /^[A-Z][^.]+\.$/, `dependency ${name}`);
    }
  });

  it("keep mdatad off while the platform's own agent runs", () => {
    const [dependency] = mdatad.dependencies.filter((d) => d.fmris.includes(PLATFORM_AGENT));
    assert.strictEqual(dependency?.grouping, 'exclude_all');
  });

  it('need vminfod neither to start nor to stay up', () => {
    const [vminfod] = mdatad.dependencies.filter((d) => d.name === 'vminfod');
    assert.strictEqual(vminfod?.grouping, 'optional_all');
    assert.strictEqual(vminfod.restartOn, 'none');
  });

  it("do not stop the daemon for a core of a child, and see the daemon's own end", () => {
    assert.deepStrictEqual(mdatad.groups.get('startd'), [
      { name: 'duration', type: 'astring', value: 'contract' },
      { name: 'ignore_error', type: 'astring', value: 'core,signal' },
    ]);
  });

  it('run as root of the group that the services of the platform have', () => {
    for (const path of [MDATAD_XML, TAKEOVER_XML]) {
      const credential =
        /<method_credential[\s\S]*?\/>/.exec(readFileSync(path, 'utf8'))?.[0] ?? '';
      assert.strictEqual(attributes(credential).get('group'), 'staff');
    }
  });

  it('stop and refresh the daemon by the method: a bare :kill would never reach it', () => {
    const method = '/opt/mdatad/current/smf/method/mdatad';
    assert.strictEqual(mdatad.methods.get('stop')?.exec, `${method} stop`);
    assert.strictEqual(mdatad.methods.get('refresh')?.exec, `${method} refresh`);
  });

  /** What the methods give a daemon to end. */
  function secondsToEnd(): { readonly stop: number; readonly kill: number } {
    const text = readFileSync(join(TOP, 'smf/lib/daemon.sh'), 'utf8');
    const [stop, kill] = ['STOP', 'KILL'].map((name) =>
      Number(new RegExp(`^${name}_SECONDS=(\\d+)$`, 'm').exec(text)?.[1]),
    );
    assert(stop !== undefined && kill !== undefined && stop > 0 && kill > 0);
    return { stop, kill };
  }

  it('give the stop method more time than it gives the daemon', () => {
    const { stop, kill } = secondsToEnd();
    // Each check takes its time too.
    assert(stop > 5 && (mdatad.methods.get('stop')?.seconds ?? 0) >= 2 * (stop + kill));
  });

  it('give the start method more time than it takes to give up by itself', () => {
    const method = readFileSync(join(TOP, 'smf/method/mdatad'), 'utf8');
    const [, own = ''] = /MDATAD_START_SECONDS:-(\d+)/.exec(method) ?? [];
    const [, hang = ''] =
      /^const ANSWER_MS = (\d+);$/m.exec(readFileSync(join(TOP, 'tools/smf/health.ts'), 'utf8')) ??
      [];
    const { stop, kill } = secondsToEnd();
    const most = stop + kill + Number(own) + Number(hang) / 1000;
    assert(Number(own) > 0 && Number(hang) > 0);
    assert((mdatad.methods.get('start')?.seconds ?? 0) > most);
  });

  it('grant exactly the named privileges, explain each, and allow no more', () => {
    const credential = attributes(/<method_credential[\s\S]*?\/>/.exec(text)?.[0] ?? '');
    assert.deepStrictEqual(credential.get('privileges')?.split(','), PRIVILEGES);
    assert.strictEqual(credential.get('limit_privileges'), credential.get('privileges'));
    const comments = text.match(/<!--[\s\S]*?-->/g)?.join('') ?? '';
    for (const privilege of PRIVILEGES) {
      assert(
        new RegExp(`^ +${privilege} +[a-z]`, 'm').test(comments),
        `${privilege} is unexplained`,
      );
    }
  });

  it('have a property for each setting, with its type and initial value', () => {
    assert.deepStrictEqual(
      mdatad.groups.get('config'),
      SETTINGS.map(({ property, type, initial }) => ({ name: property, type, value: initial })),
    );
  });

  it("make the daemon's own defaults of their initial values, member by member", () => {
    const properties = (mdatad.groups.get('config') ?? []).map(({ name, type, value }) => ({
      name,
      type,
      values: [value],
    }));
    const json = toJson(configOf(properties));
    assert.deepStrictEqual(parseConfig(json, 'manifest'), parseConfig('{}', 'defaults'));
    // Every member that has a default is there in so many words: nothing is left to chance.
    assert.deepStrictEqual(
      JSON.parse(json),
      JSON.parse(JSON.stringify(parseConfig('{}', 'defaults'))),
    );
  });

  it('run methods that exist and are executable, from where they get installed', () => {
    for (const [, { exec }] of [...mdatad.methods, ...takeover.methods]) {
      const [file = ''] = exec.split(' ');
      if (!file.startsWith(':')) {
        const source = join(TOP, file.replace(/^\/opt\/mdatad\/current\//, ''));
        assert.match(readFileSync(source, 'utf8'), /^#!\/bin\/sh\n/);
      }
    }
  });
});
