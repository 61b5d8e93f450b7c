import { entries, HELP_OPTION, ROOT_OPTION, type ManCommand, type Option } from '../command';

const ZONE: Option = {
  flag: '--zone',
  value: 'UUID',
  words: 'zone',
  text: 'Only for this zone.',
};

const FIELDS = ['alias', 'brand', 'state', 'uuid', 'zone_state', 'zoneid', 'zonename'];

const FAULTS = [
  'events.drop',
  'events.delay=',
  'vminfod.down',
  'vminfod.freeze',
  'vminfod.delay=',
  'vminfod.garbage',
  'lock.held',
  'vmadm.hang=',
  'vmadm.fail',
  'disk.full',
  'ttyb.drop',
  'ttyb.held',
  'ttyb.flap=',
];

export const SIMCN: ManCommand = {
  name: 'simcn',
  section: 1,
  summary: 'a simulated SmartOS compute node',
  synopsis: ['up --root DIR [--vms FILE]', 'COMMAND --root DIR [ARGUMENT ...]'],
  description: [
    "`simcn up` simulates a SmartOS compute node below a directory: zones with the platform's states and events, vminfod, vmadm, and the hypervisors' side of the second serial port. mdatad runs on it as on a real node. Every other command talks to that node.",
    "_UUID_ is a zone's uuid or alias, or how its uuid begins; upper case and an ellipsis at the end are taken as they are pasted. A VM starts in the state that its `zone_state` says; without one it runs.",
  ],
  options: [
    {
      ...ROOT_OPTION,
      text: 'The root of the node. Default: the environment variable `SIMCN_ROOT`.',
    },
    { flag: '--version', text: 'Prints the version and ends.' },
    HELP_OPTION,
  ],
  subcommands: [
    {
      name: 'up',
      operands: '',
      options: [
        {
          flag: '--vms',
          value: 'FILE',
          words: 'file',
          text: 'JSON of VM objects, as `vmadm lookup -j` prints.',
        },
        {
          flag: '--old-platform',
          text: 'Brands do not mount the socket directory, as before December 2016.',
        },
        {
          flag: '--ready-ms',
          value: 'N',
          text: 'How long a zone stays ready before it boots, ms.',
        },
        {
          flag: '--services',
          text: "Native zones run the operator's script and the user's when they boot, as the platform's mdata services do. `svcs` and `svcadm` in the zone tell of them and run them again; logs are in `/var/svc/log`.",
        },
        {
          flag: '--detach',
          text: '(or `-d`) In the background: ends when the node is ready, and leaves it running. What the node says goes to `var/log/simcn.log` below its root.',
        },
      ],
      text: 'Is the node, in the foreground, until SIGTERM. The first line on standard output tells that it is ready, as JSON.',
    },
    {
      name: 'down',
      operands: '',
      text: 'Ends the node, and waits until it is gone: nothing of it is mounted or running then.',
    },
    {
      name: 'logs',
      operands: '[UUID]',
      words: 'zone',
      options: [{ flag: '--follow', text: '(or `-f`) Goes on until it is interrupted.' }],
      text: "Prints the log of a node in the background, or the console of a zone's real guest.",
    },
    {
      name: 'console',
      operands: 'UUID',
      words: 'zone',
      text: 'Connects to the console of a real guest. Ctrl-] leaves it; input that is not a terminal is sent as it is.',
    },
    {
      name: 'top',
      operands: '[OPTION ...]',
      text: 'Shows the busiest zones, live: `mdatactl top` for this node, with its options.',
    },
    {
      name: 'create',
      operands: '',
      options: [
        { flag: '--boot', text: 'Boots them, whatever their `zone_state` says.' },
        {
          flag: '--rootfs',
          value: 'IMAGE',
          words: 'file',
          text: "A directory or a tar archive that the zones' roots are made of; its own programs win over the machine's.",
        },
        {
          flag: '--disk',
          value: 'IMAGE',
          words: 'file',
          text: 'A raw or qcow2 disk, a cloud image for example. kvm and bhyve guests get a copy, and QEMU boots it.',
        },
      ],
      text: 'Makes zones of what standard input holds: a payload of `vmadm create`, a VM object as `vmadm get` prints it, or an array of them.',
    },
    { name: 'boot', operands: 'UUID', words: 'zone', text: 'Boots a zone.' },
    { name: 'shutdown', operands: 'UUID', words: 'zone', text: 'Halts a zone.' },
    {
      name: 'reboot',
      operands: 'UUID',
      words: 'zone',
      options: [
        { flag: '--guest', text: 'The guest reboots by itself: an HVM zone is not halted for it.' },
      ],
      text: 'Halts and boots a zone.',
    },
    {
      name: 'destroy',
      operands: 'UUID',
      words: 'zone',
      text: 'Halts, uninstalls and removes a zone.',
    },
    {
      name: 'reprovision',
      operands: 'UUID',
      words: 'zone',
      text: "Replaces a zone's root; its delegated data stays.",
    },
    {
      name: 'snapshot',
      operands: 'UUID NAME',
      words: 'zone',
      text: "Keeps a copy of a zone's root and of its config: metadata, tags, routes.",
    },
    {
      name: 'rollback',
      operands: 'UUID NAME',
      words: 'zone',
      text: "Puts a zone's root and config back; a running zone is halted for it and booted again.",
    },
    {
      name: 'ls',
      operands: '',
      options: [
        { flag: '--json', text: 'As JSON.' },
        { flag: '-H', text: 'Without the header.' },
        { flag: '-p', text: 'For scripts: values between colons, without a header.' },
        {
          flag: '-o',
          value: 'FIELDS',
          words: FIELDS,
          text: 'These columns, any that `vmadm list` has.',
        },
        {
          flag: '-s',
          value: 'FIELDS',
          words: FIELDS,
          text: 'Sorted by these; a `-` before one turns its order round.',
        },
      ],
      text: 'Lists the zones: whole into a pipe, with short uuids on a terminal.',
    },
    {
      name: 'exec',
      operands: 'UUID -- CMD [ARGUMENT ...]',
      words: 'zone',
      text: "Runs a command in the zone's own view: its mounts, its root, its `/.zonecontrol`. Ends as the command did.",
    },
    {
      name: 'fault',
      operands: '[NAME[=VALUE] | --clear]',
      words: FAULTS,
      options: [ZONE, { flag: '--clear', text: 'Ends all faults.' }],
      text: 'Breaks something; see FAULTS. Without a name it lists what is broken, as it can be given again.',
    },
  ],
  sections: [
    entries('FAULTS', [
      ['`events.drop`', 'State changes of zones are not told.'],
      ['`events.delay=`_MS_', 'They are told late.'],
      ['`vminfod.down`', 'vminfod does not answer.'],
      ['`vminfod.freeze`', 'It tells no change, of a zone with `--zone`.'],
      ['`vminfod.delay=`_MS_', 'It tells changes late.'],
      ['`vminfod.garbage`', 'It sends what is not JSON.'],
      ['`lock.held`[`=`_MS_]', "Another process holds a zone's configuration lock."],
      ['`vmadm.hang=`_MS_', 'vmadm takes that long.'],
      ['`vmadm.fail`', 'vmadm fails.'],
      ['`disk.full`', "There is no space for a zone's configuration."],
      ['`ttyb.drop`', 'A serial port loses bytes.'],
      ['`ttyb.held`', 'Another client holds a serial port.'],
      ['`ttyb.flap=`_N_', 'The connection of a serial port breaks that often.'],
    ]),
    {
      title: 'EXAMPLES',
      blocks: [
        {
          kind: 'example',
          text: 'A node, its agent, and a question from inside a zone:',
          lines: [
            '$ simcn up -d --root /tmp/cn --vms vms.json',
            '$ mdatad --root /tmp/cn | bunyan &',
            '$ simcn exec --root /tmp/cn web01 -- mdata-get sdc:uuid',
            '$ simcn down --root /tmp/cn',
          ],
        },
      ],
    },
  ],
  exit: [
    ['0', 'Done.'],
    ['1', 'Refused or failed.'],
    ['2', 'Wrong usage.'],
  ],
  seeAlso: ['mdatad(8)', 'mdatactl(8)', 'mdata-get(1)'],
};
