/*
 * The node's zfs, as far as delegated datasets go: list, create, snapshot, rollback, destroy, send, recv.
 *
 * In a zone it asks the zone's own adapter (zfs-tree.ts) and sees what is delegated. On the node, started
 * through <root>/usr/sbin/zfs, it lists the datasets of all zones and changes nothing: vmadm does. A
 * stream is a tar of the snapshot, so that it goes through pipes of any length.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';

import { messageOf } from '../../src/lib/errors';
import { ask, askAt, type Args } from './control';
import { ADAPTER_SOCKET } from './zfs-tree';
import { TOOLS } from './zoneroot';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const USAGE = `usage: zfs COMMAND
	list [-Hpr] [-o name,type,mountpoint] [-t TYPE,...] [NAME]
	create [-V SIZE] NAME		snapshot [-r] NAME@SNAPSHOT
	destroy [-r] NAME[@SNAPSHOT]	rollback NAME@SNAPSHOT
	send NAME@SNAPSHOT		recv NAME[@SNAPSHOT]
`;
const SIZE = /^(\d+)([KMGT]?)$/i;

const listedSchema = z.array(
  z.object({ name: z.string(), type: z.enum(['filesystem', 'volume', 'snapshot']) }),
);
type Listed = z.infer<typeof listedSchema>[number];

class UsageError extends Error {}

/** Where the adapter's socket of this zone is, unless a view without namespaces says otherwise. */
const ADAPTER = process.env.SIMCN_ZFS ?? `${TOOLS}/zfs`;
/** Stands before a zone's paths where there is no view. */
const PREFIX = process.env.SIMCN_ZFS_PREFIX ?? '';
const NODE_ROOT = process.env.MDATAD_ROOT;

function askZfs(command: string, args: Args): Promise<unknown> {
  if (NODE_ROOT === undefined) {
    return askAt(join(ADAPTER, ADAPTER_SOCKET), command, args);
  }
  if (command !== 'list') {
    throw new Error('on the node simcn lists only: vmadm makes and changes zones');
  }
  return ask(NODE_ROOT, 'zfs-list');
}

async function main([command = '', ...args]: readonly string[]): Promise<void> {
  if (NODE_ROOT === undefined && !existsSync(ADAPTER)) {
    if (command === 'list') {
      process.stderr.write('no datasets available\n');
      return;
    }
    throw new Error('nothing is delegated to this zone: permission denied');
  }
  const { values, positionals } = flags(args);
  const [name, ...rest] = positionals;
  const recursive = values.recursive === true;
  if (command === 'list') {
    list(listedSchema.parse(await askZfs('list', {})), values, positionals);
    return;
  }
  if (name === undefined || rest.length > 0) {
    throw new UsageError(name === undefined ? 'missing argument' : 'too many arguments');
  }
  switch (command) {
    case 'create':
      return change(command, name, { name, bytes: sizeOf(values.volume) });
    case 'snapshot':
    case 'destroy':
      return change(command, name, { name, recursive });
    case 'rollback':
      return change('rollback', name, { name });
    case 'send':
      return send(name);
    case 'recv':
    case 'receive':
      return receive(name);
    default:
      throw new UsageError(`unrecognized command '${command}'`);
  }
}

function flags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        script: { type: 'boolean', short: 'H' },
        parsable: { type: 'boolean', short: 'p' },
        recursive: { type: 'boolean', short: 'r' },
        output: { type: 'string', short: 'o' },
        types: { type: 'string', short: 't' },
        volume: { type: 'string', short: 'V' },
      },
    });
  } catch (err) {
    throw new UsageError(messageOf(err));
  }
}

type Flags = ReturnType<typeof flags>['values'];

function list(all: readonly Listed[], values: Flags, names: readonly string[]): void {
  const types = (values.types ?? 'filesystem,volume').split(',');
  const columns = (values.output ?? 'name,type,mountpoint').split(',');
  for (const name of names) {
    if (!all.some((each) => each.name === name)) {
      throw new Error(`cannot open '${name}': dataset does not exist`);
    }
  }
  const wanted = all.filter(({ name, type }) => {
    const named = names.some((each) => {
      const below = name.startsWith(`${each}/`) || name.startsWith(`${each}@`);
      return name === each || (values.recursive === true && below);
    });
    return (types.includes(type) || types.includes('all')) && (names.length === 0 || named);
  });
  const rows = wanted.map((each) => columns.map((column) => cell(each, column)));
  if (values.script === true) {
    process.stdout.write(rows.map((row) => `${row.join('\t')}\n`).join(''));
    return;
  }
  if (rows.length === 0) {
    process.stderr.write('no datasets available\n');
    return;
  }
  const table = [columns.map((column) => column.toUpperCase()), ...rows];
  const widths = columns.map((_, i) => Math.max(...table.map((row) => row[i]?.length ?? 0)));
  for (const row of table) {
    const line = row.map((text, i) => text.padEnd(widths[i] ?? 0)).join('  ');
    process.stdout.write(`${line.trimEnd()}\n`);
  }
}

function cell({ name, type }: Listed, column: string): string {
  switch (column) {
    case 'name':
      return name;
    case 'type':
      return type;
    case 'mountpoint':
      return type === 'filesystem' ? `/${name}` : '-';
    default:
      throw new UsageError(`bad property list: invalid property '${column}'`);
  }
}

async function change(command: string, name: string, args: Args): Promise<void> {
  try {
    await askZfs(command, args);
  } catch (err) {
    throw new Error(`cannot ${command} '${name}': ${messageOf(err)}`, { cause: err });
  }
}

async function send(name: string): Promise<void> {
  const copy = z.string().parse(
    await askZfs('send', { name }).catch((err: unknown) => {
      throw new Error(`cannot open '${name}': ${messageOf(err)}`, { cause: err });
    }),
  );
  await tar('cannot send', ['-C', join(ADAPTER, copy), '-cf', '-', '.']);
}

async function receive(name: string): Promise<void> {
  const [dataset = '', snap] = name.split('@');
  try {
    await askZfs('receive', { name: dataset });
  } catch (err) {
    throw new Error(`cannot receive new filesystem stream: ${messageOf(err)}`, { cause: err });
  }
  try {
    await tar('cannot receive: invalid stream', ['-C', `${PREFIX}/${dataset}`, '-xf', '-']);
    if (snap !== undefined) {
      await askZfs('snapshot', { name, recursive: false });
    }
  } catch (err) {
    // Half a stream leaves nothing.
    await askZfs('destroy', { name: dataset, recursive: true });
    throw err;
  }
}

async function tar(failure: string, argv: readonly string[]): Promise<void> {
  const child = spawn('tar', argv, { stdio: 'inherit' });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) {
    throw new Error(failure);
  }
}

/** Bytes of `512M`; null for none. */
function sizeOf(text: string | undefined): number | null {
  if (text === undefined) {
    return null;
  }
  const [, digits = '', unit = ''] = SIZE.exec(text) ?? [];
  const power = ['', 'K', 'M', 'G', 'T'].indexOf(unit.toUpperCase());
  if (digits === '' || power < 0) {
    throw new UsageError(`bad volume size '${text}'`);
  }
  return Number(digits) * 1024 ** power;
}

main(process.argv.slice(2)).catch((err: unknown) => {
  process.stderr.write(`${messageOf(err)}\n`);
  if (err instanceof UsageError) {
    process.stderr.write(USAGE);
  }
  process.exitCode = err instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
});
