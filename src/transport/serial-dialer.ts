/*
 * One try to connect to a hypervisor's port: looks, connects, looks again.
 *
 * The second look makes sure that what answered is the file that was checked, reached by the same way:
 * in between a hypervisor process could have put a link in the place of the file or of a folder, and
 * have taken it away again. A mere change in the port's folder looks the same and costs one more try.
 * Used by a serial link, which tries again as it sees fit.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { SystemError, systemError } from '../lib/errors';
import { findPort } from './port-file';
import type { PortFile } from './port-file';

export interface Dial {
  /**
   * A socket that is paused; whoever takes it lets it flow. Rejects with a SystemError. After `cancel`
   * it may do either, and nobody should care.
   */
  readonly done: Promise<{ readonly socket: Socket; readonly file: PortFile }>;
  /** Closes what it opened. Idempotent. */
  cancel(): void;
}

/**
 * @param zoneroot host path of the zone's root
 * @param port path inside the zone
 * @param found is told which file the try goes to
 */
export function dialPort(zoneroot: string, port: string, found: (file: PortFile) => void): Dial {
  const cancelled = new AbortController();
  const dial = async (): Promise<{ socket: Socket; file: PortFile }> => {
    const file = await findPort(zoneroot, port);
    cancelled.signal.throwIfAborted();
    found(file);
    // Not read before it has its owner, who would miss an early end.
    const socket = connect(file.path).pause();
    cancelled.signal.addEventListener('abort', () => socket.destroy());
    try {
      await connected(socket, file.path);
      const after = await findPort(zoneroot, port);
      if (after.way !== file.way) {
        throw new SystemError('connect', file.path, 'ESTALE', 'the port was replaced meanwhile');
      }
    } catch (err) {
      socket.destroy();
      throw err;
    }
    return { socket, file };
  };
  return {
    done: dial(),
    cancel: () => cancelled.abort(),
  };
}

function connected(socket: Socket, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // Also a hang-up before the socket has its owner is told here, or to nobody: `close` tells it later.
    socket.on('error', (err) => reject(systemError('connect', path, err)));
    socket.once('close', () => reject(new SystemError('connect', path, 'ECANCELED')));
    socket.once('connect', () => resolve());
  });
}
