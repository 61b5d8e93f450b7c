/*
 * render-config --out FILE [--site FILE]: writes the daemon's configuration file from the service's
 * properties, which come in on stdin as svcprop(1) prints them. Run by the start and refresh methods.
 *
 * The new file replaces the old one by rename, so a daemon that reads it meanwhile sees one or the
 * other. Exit 96 (SMF: bad configuration) with the reason on stderr, and nothing changed.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { codeOf, explain } from '../../src/lib/errors';
import { configOf, overlay, parseProperties, parseSite, toJson, type JsonMap } from './properties';

const EXIT_BAD_CONFIG = 96;
const STDIN = 0;

function main(): void {
  const command = new Command('render-config')
    .requiredOption('--out <file>', 'the configuration file to write')
    .option('--site <file>', 'settings of this site, laid over the properties; may be missing')
    .parse();
  const { out, site } = command.opts<{ out: string; site?: string }>();
  const properties = configOf(parseProperties(readFileSync(STDIN, 'utf8')));
  const config = site === undefined ? properties : withSite(properties, site);
  const partial = `${out}.new`;
  // The site's file may name places that are nobody's business.
  writeFileSync(partial, `${toJson(config)}\n`, { mode: 0o600 });
  renameSync(partial, out);
}

function withSite(properties: JsonMap, path: string): JsonMap {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (err) {
    if (codeOf(err) === 'ENOENT') {
      return properties;
    }
    throw err;
  }
  return overlay(properties, parseSite(text, path), (member) =>
    process.stderr.write(`render-config: ${member} is as ${path} says, not as the property says\n`),
  );
}

try {
  main();
} catch (err) {
  process.stderr.write(explain('render-config', err));
  process.exitCode = EXIT_BAD_CONFIG;
}
