/*
 * What node:net knows of a socket and does not tell. The only place that looks behind its surface.
 *
 * `_handle` is libuv's pipe beneath a socket. Its `fd` and `writeQueueSize` have been there since Node
 * 0.10 and are what net.js itself uses; when one is missing, the callers get "unknown", never a guess.
 * To be removed when node:net offers a descriptor.
 */
import type { Socket } from 'node:net';

/** The descriptor of an open socket, for getpeerucred; undefined once it is closed. */
export function fdOf(socket: Socket): number | undefined {
  const fd = handleNumber(socket, 'fd');
  return fd !== undefined && fd >= 0 ? fd : undefined;
}

/**
 * Octets of the write under way that the kernel has not taken. It shrinks while a slow peer reads a big
 * reply, which `writableLength` tells only at the reply's end.
 */
export function untakenOf(socket: Socket): number {
  return handleNumber(socket, 'writeQueueSize') ?? socket.writableLength;
}

function handleNumber(socket: Socket, name: string): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) {
    return undefined;
  }
  const value: unknown = Reflect.get(handle, name);
  return typeof value === 'number' ? value : undefined;
}
