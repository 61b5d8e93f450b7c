/*
 * The options of mdatad, as main.ts reads them and as the shells complete them. It runs nothing.
 */
import { Command, Option } from 'commander';
import { defaultRoot, LOG_LEVELS } from './config';
import { packageVersion } from './lib/version';

/** Ends no process: errors, help and version are thrown once they are printed (commander's CommanderError). */
export function mdatadCommand(): Command {
  return new Command('mdatad')
    .description('the metadata agent of a SmartOS global zone')
    .version(packageVersion(), '--version', 'print the version')
    .option('--root <dir>', 'the root of the compute node (or MDATAD_ROOT)', defaultRoot())
    .option('--config <file>', 'configuration, JSON')
    .addOption(new Option('--log-level <level>', 'least level to log').choices(LOG_LEVELS))
    .option('--vminfod <url>', 'vminfod: http://HOST:PORT or unix:/PATH')
    .option('--check-config', 'check the configuration and exit')
    .exitOverride();
}
