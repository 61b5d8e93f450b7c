import assert from 'node:assert';
import { parseConfig } from '../../src/config';
import {
  configOf,
  overlay,
  parseProperties,
  parseSite,
  PropertyError,
  toJson,
} from '../../tools/smf/properties';

function rendered(lines: string): unknown {
  return JSON.parse(toJson(configOf(parseProperties(lines))));
}

describe("the service's properties", () => {
  it('become members of the configuration, a section by its prefix', () => {
    const config = rendered(
      'config/log_level astring debug\nconfig/limits_connections count 8\nconfig/datasets_enabled boolean false\n',
    );
    assert.deepStrictEqual(config, {
      log_level: 'debug',
      limits: { connections: 8 },
      datasets: { enabled: false },
    });
  });

  it('are left out where they are not set', () => {
    const lines =
      'config/vminfod astring ""\nconfig/metrics_port count 0\nconfig/datasets_owners astring\n';
    assert.deepStrictEqual(rendered(lines), {});
  });

  it('may have the stability of their group among them, as svcprop prints it', () => {
    const lines = 'config/stability astring Evolving\nconfig/limits_connections count 8\n';
    assert.deepStrictEqual(rendered(lines), { limits: { connections: 8 } });
  });

  it('are read with the escapes of svcprop', () => {
    assert.deepStrictEqual(rendered('config/vminfod astring unix:/tmp/a\\ b\\\\c\\;\n'), {
      vminfod: 'unix:/tmp/a b\\c;',
    });
  });

  it('become an array where they may have many values, even with one', () => {
    assert.deepStrictEqual(rendered('config/datasets_owners astring u1\n'), {
      datasets: { owners: ['u1'] },
    });
    assert.deepStrictEqual(rendered('config/datasets_owners astring u1 u2\n'), {
      datasets: { owners: ['u1', 'u2'] },
    });
  });

  it('are refused by name when there is no such setting or their value does not fit', () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ['config/log_levle astring info', /config\/log_levle: there is no such setting/],
      ['config/limits_connections astring many', /config\/limits_connections: many is not a count/],
      ['config/datasets_enabled astring yes', /config\/datasets_enabled: yes is neither/],
      ['config/writer astring file vmadm', /config\/writer: wants one value, has 2/],
      ['general/enabled boolean true', /not a line of svcprop for the group config/],
    ];
    for (const [line, words] of cases) {
      assert.throws(
        () => rendered(`${line}\n`),
        (err) => err instanceof PropertyError && words.test(err.message),
      );
    }
  });
});

describe("the site's file", () => {
  it('wins over the properties, member by member, and reports what it hides', () => {
    const hidden: string[] = [];
    const properties = configOf(
      parseProperties(
        'config/log_level astring debug\nconfig/limits_connections count 8\nconfig/limits_line_bytes count 8192\nconfig/writer astring file\n',
      ),
    );
    const site = parseSite(
      '{"writer":"file","limits":{"connections":9},"metrics_port":9101}',
      'site',
    );
    const merged = overlay(properties, site, (member) => hidden.push(member));
    const config = parseConfig(toJson(merged), 'merged');
    assert.strictEqual(config.log_level, 'debug');
    assert.strictEqual(config.limits.connections, 9);
    assert.strictEqual(config.limits.line_bytes, 8192);
    assert.strictEqual(config.metrics_port, 9101);
    assert.deepStrictEqual(hidden, ['limits.connections']);
  });

  it('is refused when it is not a JSON object, or holds null', () => {
    assert.throws(() => parseSite('{', 'mdatad.json'), /^PropertyError: mdatad\.json: not JSON/);
    assert.throws(() => parseSite('[]', 'mdatad.json'), /wants an object/);
    assert.throws(() => parseSite('{"writer":null}', 'mdatad.json'), /null is not a value/);
  });

  it('cannot reach into what objects inherit', () => {
    const site = parseSite('{"__proto__":{"log_level":"debug"}}', 'mdatad.json');
    const json = toJson(overlay(new Map(), site, () => undefined));
    assert.strictEqual(json, '{"__proto__":{"log_level":"debug"}}');
    assert.throws(() => parseConfig(json, 'mdatad.json'));
  });
});
