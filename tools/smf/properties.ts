/*
 * Turns the service's properties into the daemon's configuration.
 *
 * Read by render-config, which the start and refresh methods run. Pure. Knows what
 * svcprop(1) prints and the table of settings; whether a value makes sense is for the daemon's own
 * schema to say, with `--check-config`.
 */
import { messageOf } from '../../src/lib/errors';
import { parseCommentedJson } from '../../src/lib/json-reader';
import { SETTINGS, type Setting } from './settings';

export type Json = boolean | number | string | readonly Json[] | JsonMap;
export type JsonMap = Map<string, Json>;

/** A property or a member that cannot be used. The method ends with SMF's "bad configuration". */
export class PropertyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PropertyError';
  }
}

export interface Property {
  readonly name: string;
  readonly type: string;
  readonly values: readonly string[];
}

/**
 * Parses what `svcprop -p config FMRI` prints: `config/NAME TYPE VALUE...` a line, values with shell
 * characters escaped by a backslash and the empty string as `""`.
 */
export function parseProperties(text: string): Property[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', type, ...values] = splitWords(line);
      if (!name.startsWith('config/') || type === undefined) {
        throw new PropertyError(`not a line of svcprop for the group config: ${line}`);
      }
      return { name: name.slice('config/'.length), type, values };
    });
}

/**
 * The configuration that the properties say. Throws a PropertyError on one that is not a setting.
 *
 * `stability` is none of ours: a `<stability>` element inside a property group becomes a property of that
 * name (lxml_get_pgroup_stability in usr/src/cmd/svc/svccfg/svccfg_xml.c of illumos).
 */
export function configOf(properties: readonly Property[]): JsonMap {
  const config: JsonMap = new Map();
  for (const property of properties.filter(({ name }) => name !== 'stability')) {
    const setting = SETTINGS.find((s) => s.property === property.name);
    if (setting === undefined) {
      throw new PropertyError(`config/${property.name}: there is no such setting`);
    }
    const value = valueOf(setting, property.values);
    if (value !== undefined) {
      setMember(config, setting.path, value);
    }
  }
  return config;
}

/**
 * Lays the site's own settings over those of the service. The site's file outlives a reboot, what
 * svccfg(8) changed does not, so the file wins; what it hides is reported to `hidden`, by member.
 */
export function overlay(
  config: JsonMap,
  site: JsonMap,
  hidden: (member: string) => void,
  prefix = '',
): JsonMap {
  const merged = new Map(config);
  for (const [name, value] of site) {
    const below = merged.get(name);
    if (value instanceof Map && below instanceof Map) {
      merged.set(name, overlay(below, value, hidden, `${prefix}${name}.`));
      continue;
    }
    if (below !== undefined && toJson(below) !== toJson(value)) {
      hidden(`${prefix}${name}`);
    }
    merged.set(name, value);
  }
  return merged;
}

/** Parses the site's file: a JSON object of the daemon's configuration, or part of it, which may have comments. */
export function parseSite(text: string, source: string): JsonMap {
  let parsed: unknown;
  try {
    parsed = parseCommentedJson(text);
  } catch (err) {
    throw new PropertyError(`${source}: not JSON: ${messageOf(err)}`);
  }
  const json = fromJson(parsed, source);
  if (!(json instanceof Map)) {
    throw new PropertyError(`${source}: wants an object`);
  }
  return json;
}

/** As JSON text, Maps as objects. */
export function toJson(value: Json): string {
  return JSON.stringify(plain(value));
}

function plain(value: Json): unknown {
  if (!(value instanceof Map)) {
    return value;
  }
  return Object.fromEntries([...value].map(([name, member]) => [name, plain(member)]));
}

function fromJson(value: unknown, source: string): Json {
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string') {
    return value;
  }
  if (Array.isArray(value)) {
    return value.map((element) => fromJson(element, source));
  }
  if (typeof value === 'object' && value !== null) {
    return new Map(Object.entries(value).map(([k, v]) => [k, fromJson(v, source)]));
  }
  throw new PropertyError(`${source}: null is not a value; leave the member out`);
}

function valueOf(setting: Setting, values: readonly string[]): Json | undefined {
  if (values.length === 0 || (values.length === 1 && values[0] === setting.unset)) {
    return undefined;
  }
  if (setting.list) {
    return values;
  }
  const [value = '', ...more] = values;
  if (more.length > 0) {
    throw new PropertyError(`config/${setting.property}: wants one value, has ${values.length}`);
  }
  switch (setting.type) {
    case 'astring':
      return value;
    case 'count':
      if (!/^\d+$/.test(value)) {
        throw new PropertyError(`config/${setting.property}: ${value} is not a count`);
      }
      return Number(value);
    case 'boolean':
      if (value !== 'true' && value !== 'false') {
        throw new PropertyError(`config/${setting.property}: ${value} is neither true nor false`);
      }
      return value === 'true';
  }
}

function setMember(config: JsonMap, [first = '', ...rest]: readonly string[], value: Json): void {
  if (rest.length === 0) {
    config.set(first, value);
    return;
  }
  const section = config.get(first);
  const inner: JsonMap = section instanceof Map ? section : new Map<string, Json>();
  config.set(first, inner);
  setMember(inner, rest, value);
}

/** Words of one line, as a shell would read them. */
function splitWords(line: string): string[] {
  const words = line.match(/(?:\\.|[^\\ ])+/g) ?? [];
  return words.map((word) => (word === '""' ? '' : word.replace(/\\(.)/g, '$1')));
}
