/*
 * The console of a real guest, and the logs: `simcn console` and `simcn logs`.
 *
 * A guest's first serial port is a socket of QEMU below its zone's root; what the guest writes there is in
 * <zonepath>/logs/console.log too, from its boot on. Ctrl-] leaves the console, as `vmadm console` has it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { z } from 'zod';

import { codeOf, RemediedError, systemError } from '../../src/lib/errors';
import { Paths } from '../../src/platform/paths';
import { ask, logOf } from './control';
import { CONSOLE } from './hypervisor';

const LEAVE = 0x1d;
const placeSchema = z.object({ zonepath: z.string(), zonename: z.string() });

/**
 * Connects the terminal to a real guest's console, until Ctrl-] or until the guest is gone. Input that is not
 * a terminal is sent as it is; at its end what the guest writes is still shown.
 * @throws Error for a zone without a console
 */
export async function attachConsole(root: string, zone: string): Promise<void> {
  const { zonepath, zonename } = placeSchema.parse(await ask(root, 'vm', { uuid: zone }));
  const socket = connect(new Paths(root).host(`${zonepath}/root${CONSOLE}`));
  try {
    await once(socket, 'connect');
  } catch (err) {
    if (['ENOENT', 'ECONNREFUSED'].includes(codeOf(err))) {
      const why = `zone ${zonename} has no console: only a real guest that runs has one`;
      throw new RemediedError(why, `of a zone: simcn exec ${zone} -- sh`);
    }
    throw systemError('connect', zonename, err);
  }
  const { stdin, stdout, stderr } = process;
  stderr.write(stdin.isTTY ? `simcn: console of ${zonename}, Ctrl-] leaves it\n` : '');
  // Raw: Ctrl-C and the rest belong to the guest.
  const setRaw = (raw: boolean): unknown => (stdin.isTTY ? stdin.setRawMode(raw) : null);
  setRaw(true);
  stdin.on('data', (bytes: Buffer) => {
    const at = stdin.isTTY ? bytes.indexOf(LEAVE) : -1;
    socket.write(at < 0 ? bytes : bytes.subarray(0, at));
    if (at >= 0) {
      socket.end();
    }
  });
  socket.on('data', (bytes: Buffer) => stdout.write(bytes));
  // A guest that is killed resets its port: `close` says the same.
  socket.on('error', () => undefined);
  await once(socket, 'close');
  setRaw(false);
}

/**
 * Prints the node's log, or what a zone's real guest wrote on its console.
 * @param follow continues until it is interrupted
 * @returns an exit status
 */
export async function printLog(
  root: string,
  zone: string | null,
  follow: boolean,
): Promise<number> {
  let file = logOf(root);
  if (zone !== null) {
    const { zonepath } = placeSchema.parse(await ask(root, 'vm', { uuid: zone }));
    file = new Paths(root).host(`${zonepath}/logs/console.log`);
  }
  if (!existsSync(file)) {
    const why =
      zone === null
        ? 'a node in the foreground (simcn up without -d) writes to its terminal'
        : 'only a real guest has a console here';
    throw new Error(`there is no log ${file}: ${why}`);
  }
  const child = spawn('tail', ['-n', '+1', ...(follow ? ['-F'] : []), file], { stdio: 'inherit' });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status ?? 1;
}
