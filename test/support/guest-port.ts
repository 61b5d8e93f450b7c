/*
 * Who is connected to a guest's serial port, as this machine's kernel knows it: independent of what the
 * agent or simcn say of themselves.
 */
import { readFileSync } from 'node:fs';

/** SS_CONNECTED of the kernel, as /proc/net/unix prints it. */
const CONNECTED = '03';

/**
 * The connections to the port below this zone root, by the inode numbers of their sockets. The same
 * number at two times is the same connection.
 */
export function portConnections(zoneroot: string): string[] {
  // Num RefCount Protocol Flags Type St Inode Path. A port may have been bound under another name.
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([, , , , , state, , path]) => {
      return state === CONNECTED && path?.startsWith(`${zoneroot}/tmp/`) === true;
    })
    .map(([, , , , , , inode = '']) => inode);
}
