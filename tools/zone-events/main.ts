#!/usr/bin/env node
/*
 * Prints one JSON object for each zone state change, as operators know them from sysevent(8).
 */
import { Command } from 'commander';
import { explain, RemediedError } from '../../src/lib/errors';
import { packageVersion } from '../../src/lib/version';
import { defaultRoot } from '../../src/config';
import { openPlatform } from '../../src/platform/libzonecfg';
import type { RawZoneEvent } from '../../src/platform/zone-events';
import { ZoneEvents } from '../../src/zones/events';

async function main(): Promise<void> {
  const command = new Command('zone-events')
    .description('prints one JSON object for each zone state change')
    .version(packageVersion(), '--version', 'print the version')
    .option('--root <dir>', 'the root of the compute node (default: MDATAD_ROOT)')
    .parse();
  const { root = defaultRoot() } = command.opts<{ root?: string }>();
  if (root === undefined) {
    const remedy = 'name the root that simcn up was given, or set MDATAD_ROOT';
    throw new RemediedError('--root DIR is needed off SmartOS', remedy);
  }
  const platform = openPlatform(root);
  // Without a node the event channel refuses too, and says nothing of why.
  platform.zoneIndex();
  const events = new ZoneEvents(platform);
  events.on('lost', () => process.stderr.write('zone-events: events were lost\n'));
  const facts = await events.start();
  const stop = () => void events.stop();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  // Whoever reads us may stop early (`| head`).
  process.stdout.on('error', stop);
  process.stdout.write(`${JSON.stringify({ ...stamp('ready'), zones: facts.length })}\n`);
  events.on('data', (event: RawZoneEvent) => process.stdout.write(`${render(event)}\n`));
}

function stamp(type: string): { date: string; type: string } {
  return { date: new Date().toISOString(), type };
}

function render({ zonename, newstate, oldstate, zoneid, when }: RawZoneEvent): string {
  const head = {
    ...stamp('event'),
    channel: 'com.sun:zones:status',
    class: 'status',
    subclass: 'change',
  };
  const data = { zonename, newstate, oldstate, zoneid };
  // `when` is past 2^53: its digits go in as they are.
  const text = JSON.stringify({ ...head, data });
  return `${text.slice(0, -2)},"when":${when}}}`;
}

main().catch((err: unknown) => {
  process.stderr.write(explain('zone-events', err));
  process.exitCode = 1;
});
