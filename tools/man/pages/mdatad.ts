import { SETTINGS } from '../../smf/settings';
import { entries, HELP_OPTION, VERSION_OPTION, ROOT_OPTION, type ManCommand } from '../command';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'];

export const MDATAD: ManCommand = {
  name: 'mdatad',
  section: 8,
  summary: 'the metadata agent of a SmartOS global zone',
  synopsis: ['[--root DIR] [--config FILE] [--log-level LEVEL] [--vminfod URL] [--check-config]'],
  description: [
    "mdatad answers the metadata requests of a compute node's zones and virtual machines. Zones of the OS brands ask over a unix socket that is mounted into them, virtual machines over their second serial port.",
    'It runs in the foreground and writes its log, one JSON object a line, on standard output; `bunyan` makes it readable. Once every zone known at the start has its socket it logs `ready`. As a service it is `svc:/site/mdatad:default`, whose start method returns when the daemon answers its health probe.',
    "mdatad and the platform's own agent, `svc:/system/smartdc/metadata:default`, claim the same sockets. Only one of them runs at a time: `svc:/site/mdatad-takeover:default` disables the platform's at each boot.",
  ],
  options: [
    ROOT_OPTION,
    {
      flag: '--config',
      value: 'FILE',
      words: 'file',
      text: 'Configuration, a JSON object; see CONFIGURATION. Without it, all defaults.',
    },
    {
      flag: '--log-level',
      value: 'LEVEL',
      words: LOG_LEVELS,
      text: 'Least level that is logged. Wins over the configuration.',
    },
    {
      flag: '--vminfod',
      value: 'URL',
      text: 'Where vminfod answers, `http://`_HOST_`:`_PORT_ or `unix:`_PATH_. Wins over the configuration.',
    },
    {
      flag: '--check-config',
      text: 'Checks the configuration, says what is wrong with it, and ends.',
    },
    VERSION_OPTION,
    HELP_OPTION,
  ],
  sections: [
    {
      title: 'CONFIGURATION',
      blocks: [
        {
          kind: 'text',
          text: "Each setting is a property of the service's group `config` and a member of the configuration file. As a property a section's name stands in front: `limits_connections` is the member `connections` of `limits`. An unknown member is refused.",
        },
        {
          kind: 'entries',
          entries: SETTINGS.map(({ property, initial, unset, text }) => [
            `\`${property}\``,
            initial === unset ? text : `${text} Default: \`${initial}\`.`,
          ]),
        },
        {
          kind: 'example',
          text: 'Until the next reboot (the service repository lies on a RAM disk):',
          lines: [
            '# svccfg -s mdatad setprop config/log_level = astring: debug',
            '# svcadm refresh mdatad',
          ],
        },
        {
          kind: 'example',
          text: 'For good, in `/opt/mdatad/etc/mdatad.json`, which wins over the properties:',
          lines: ['{ "log_level": "debug", "limits": { "connections": 32 } }'],
        },
      ],
    },
    entries('SIGNALS', [
      ['SIGTERM, SIGINT', 'Accepts nothing new, answers what was asked, and ends within 5 s.'],
      [
        'SIGHUP',
        'Reads the configuration again. One that is wrong is logged, and the old one stays in force.',
      ],
    ]),
    entries('FILES', [
      [
        '`/var/zonecontrol/`_ZONE_`/metadata.sock`',
        "A zone's socket; the directory is mounted into the zone.",
      ],
      ['`/var/run/mdatad/admin.sock`', 'What mdatactl talks to; root only.'],
      ['`/var/run/mdatad/config.json`', 'The configuration that the start method made.'],
      ['`/opt/mdatad/etc/mdatad.json`', 'Settings of this site; outlives reboots and upgrades.'],
      ['`/opt/custom/smf/mdatad.xml`', 'The manifest, imported at each boot.'],
      ['`/var/svc/log/site-mdatad:default.log`', 'The log of the service.'],
    ]),
  ],
  exit: [
    ['0', 'Ended on request, or the configuration is right.'],
    ['95', 'Cannot go on; the reason is on standard error and in the log.'],
    ['96', 'The configuration or the command line is wrong.'],
    ['100', 'Not permitted.'],
  ],
  seeAlso: ['mdatactl(8)', 'mdata-get(1)', 'vmadm(8)', 'smf(7)'],
};
