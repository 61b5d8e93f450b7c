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

export interface Manifest {
  readonly fmri: string;
  readonly enabled: boolean;
  readonly dependencies: readonly Dependency[];
  readonly methods: ReadonlyMap<string, { readonly exec: string; readonly seconds: number }>;
  readonly groups: ReadonlyMap<string, readonly Propval[]>;
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
  const text = whole.replace(/<!--[\s\S]*?-->/g, '');
  const name = attributes(first(text, /<service\s[^>]*>/)).get('name') ?? '';
  const instance = attributes(first(text, /<create_default_instance[^>]*>/));
  return {
    fmri: `svc:/${name}:default`,
    enabled: instance.get('enabled') === 'true',
    dependencies: dependenciesOf(whole),
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
        all(group, /<propval\s[^>]*>/g).map(propvalOf),
      ]),
    ),
  };
}

function dependenciesOf(whole: string): Dependency[] {
  const pattern =
    /(?:<!--((?:(?!-->)[\s\S])*)-->\s*)?(<dependency\s[^>]*>)([\s\S]*?)<\/dependency>/g;
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
