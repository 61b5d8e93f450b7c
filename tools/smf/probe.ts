/*
 * probe [--root DIR] [--wait SECONDS]: exit 0 when the daemon answers that it is healthy, 1 with its
 * answer on stderr when it does not within that time.
 */
import { Command } from 'commander';
import { Paths } from '../../src/platform/paths';
import { awaitHealth } from './health';

async function main(): Promise<void> {
  const command = new Command('probe')
    .option('--root <dir>', 'the root of the compute node', '/')
    .option('--wait <seconds>', 'how long to ask again', Number, 0)
    .parse();
  const { root, wait } = command.opts<{ root: string; wait: number }>();
  const { healthy, answer } = await awaitHealth(new Paths(root).adminSocket, wait * 1000);
  if (!healthy) {
    process.stderr.write(`probe: mdatad is not healthy: ${answer}\n`);
    process.exitCode = 1;
  }
}

void main();
