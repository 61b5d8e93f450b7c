/*
 * A process that writes metadata as the daemon does, for tests that limit what a process may do.
 *
 *   node write-child.js DIRECTORY KEY VALUE [KEY VALUE ...]
 *
 * Prints `ok KEY` for each write that was acknowledged, `failed KEY` for each that was not.
 */
import { FileWriter } from '../../src/writes/file-writer';
import { Writer } from '../../src/writes/writer';
import { ConfigFiles } from '../../src/vm/config-files';
import { logRecords } from './log-records';
import { METADATA_LIMITS } from './writer-fixture';

const [directory = '', ...pairs] = process.argv.slice(2);

async function main(): Promise<void> {
  const lockPath = (): string => `${directory}/lock`;
  const writer = new Writer(
    new FileWriter({ lockPath, limits: METADATA_LIMITS, files: new ConfigFiles(), confirmMs: 1 }),
  );
  const target = { zonename: 'z', uuid: 'z', directory, log: logRecords().zoneLog('z') };
  for (let at = 0; at < pairs.length; at += 2) {
    const [key = '', value = ''] = pairs.slice(at, at + 2);
    const result = await writer.change(target, { kind: 'set', map: 'customer', key, value });
    process.stdout.write(`${result.kind === 'stored' ? 'ok' : 'failed'} ${key}\n`);
  }
  await writer.stop();
}

void main();
