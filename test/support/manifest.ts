/*
 * Reads an SMF manifest as far as the tests need it. The manifest has been held against the DTD before,
 * so plain patterns do.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const TOP = resolve(__dirname, '..', '..', '..');

export interface Dependency {
  readonly name: string;
  readonly grouping: string;
  readonly restartOn: string;
  readonly fmris: readonly string[];
  /** The comment that stands right before it. */
  readonly comment: string;
}

/** What a service and an instance have in common. */
export interface Entity {
  readonly dependencies: readonly Dependency[];
  readonly methods: ReadonlyMap<string, { readonly exec: string; readonly seconds: number }>;
  /** Property groups, each with what svcprop prints of it: a `stability` element is a property as well. */
  readonly groups: ReadonlyMap<string, readonly Propval[]>;
}

export interface Manifest extends Entity {
  /** Without `svc:/`. */
  readonly service: string;
  /** What other services are made to depend on, by this manifest. */
  readonly dependents: readonly Dependency[];
  readonly instances: ReadonlyMap<string, Entity & { readonly enabled: boolean }>;
}

export interface Propval {
  readonly name: string;
  readonly type: string;
  readonly value: string;
}

/** What xmllint has against a manifest, by our stand-in of the DTD; empty when it is valid. */
export function faultsOf(path: string): string {
  const dtd = join(TOP, 'test', 'support', 'service_bundle.dtd');
  const { status, stderr } = spawnSync('xmllint', ['--noout', '--nonet', '--dtdvalid', dtd, path], {
    encoding: 'utf8',
  });
  return status === 0 ? '' : stderr;
}

export function readManifest(path: string): Manifest {
  const whole = readFileSync(path, 'utf8');
  const instances = /<instance\s[\s\S]*?(?:\/>|<\/instance>)/g;
  const own = whole.replace(instances, '');
  const [defaultInstance] = all(own, /<create_default_instance[^>]*>/g);
  return {
    service: attributes(first(own, /<service\s[^>]*>/)).get('name') ?? '',
    ...entityOf(own),
    dependents: dependenciesOf(own, 'dependent'),
    instances: new Map([
      ...(defaultInstance === undefined
        ? []
        : [['default', { ...entityOf(''), enabled: isEnabled(defaultInstance) }] as const]),
      ...all(whole, instances).map(
        (text) =>
          [
            attributes(text).get('name') ?? '',
            { ...entityOf(text), enabled: isEnabled(text) },
          ] as const,
      ),
    ]),
  };
}

function entityOf(whole: string): Entity {
  const text = whole.replace(/<!--[\s\S]*?-->/g, '');
  return {
    dependencies: dependenciesOf(whole, 'dependency'),
    methods: new Map(
      all(text, /<exec_method\s[^>]*>/g).map((tag) => {
        const a = attributes(tag);
        const exec = a.get('exec') ?? '';
        return [a.get('name') ?? '', { exec, seconds: Number(a.get('timeout_seconds')) }];
      }),
    ),
    groups: new Map(
      all(text, /<property_group[\s\S]*?<\/property_group>/g).map((group) => [
        attributes(group).get('name') ?? '',
        // lxml_get_pgroup_stability in usr/src/cmd/svc/svccfg/svccfg_xml.c
        [
          ...all(group, /<stability\s[^>]*>/g).map((tag) => ({
            name: 'stability',
            type: 'astring',
            value: attributes(tag).get('value') ?? '',
          })),
          ...all(group, /<propval\s[^>]*>/g).map(propvalOf),
        ],
      ]),
    ),
  };
}

function isEnabled(tag: string): boolean {
  return attributes(tag).get('enabled') === 'true';
}

function dependenciesOf(whole: string, element: 'dependency' | 'dependent'): Dependency[] {
  const pattern = new RegExp(
    `(?:<!--((?:(?!-->)[\\s\\S])*)-->\\s*)?(<${element}\\s[^>]*>)([\\s\\S]*?)</${element}>`,
    'g',
  );
  return [...whole.matchAll(pattern)].map(([, comment = '', tag = '', inner = '']) => {
    const a = attributes(tag);
    return {
      name: a.get('name') ?? '',
      grouping: a.get('grouping') ?? '',
      restartOn: a.get('restart_on') ?? '',
      fmris: all(inner, /<service_fmri[^>]*>/g).map((fmri) => attributes(fmri).get('value') ?? ''),
      comment: comment.trim(),
    };
  });
}

function propvalOf(tag: string): Propval {
  const a = attributes(tag);
  return {
    name: a.get('name') ?? '',
    type: a.get('type') ?? '',
    value: a.get('value') ?? '',
  };
}

/** Attributes of the first tag in a text. */
export function attributes(text: string): Map<string, string> {
  const tag = first(text, /<[^>]*>/);
  return new Map(
    [...tag.matchAll(/([\w:]+)=(?:'([^']*)'|"([^"]*)")/g)].map(([, name = '', a, b]) => [
      name,
      a ?? b ?? '',
    ]),
  );
}

function first(text: string, pattern: RegExp): string {
  return pattern.exec(text)?.[0] ?? '';
}

function all(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => match[0]);
}
