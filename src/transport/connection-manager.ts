/*
 * The open connections of one zone socket: who may come in, who is sent away, and when they must leave.
 *
 * Made by a zone socket, which hands it what any of its servers accepts: connections outlive the server
 * that they came in by. Only a process of the zone itself or of the global zone is let in, and only one of
 * root or of a reader.
 */
import { codeOf, messageOf } from '../lib/errors';
import type { PeerCredential } from '../platform/libzonecfg';
import type { Stream } from '../platform/stream';
import { Connection } from './connection';
import type { ConnectionContext } from './connection';
import type { Access } from './link';
import type { PeriodicTimer } from './periodic-timer';

export interface ConnectionManagerOptions {
  readonly zonename: string;
  readonly context: ConnectionContext;
  readonly sweep: PeriodicTimer;
  /** May throw a SystemError: then the connection is refused. */
  readonly peerOf: (fd: number) => PeerCredential;
  readonly allowed: (peer: PeerCredential) => boolean;
  /**
   * What a process of this zone, or of the global one, may do. On illumos the mode of a socket file keeps
   * nobody out (socksubr.c, so_ux_lookup): only programs of XPG4_2 or lx are checked against it.
   */
  readonly accessOf?: (peer: PeerCredential) => Access;
}

/** The connections of one zone socket. Closed once, by the zone socket that made it. */
export class ConnectionManager {
  private readonly options: ConnectionManagerOptions;
  private readonly open = new Set<Connection>();
  private closed = false;
  private leaveSweep: (() => void) | null = null;
  private emptied: () => void = () => undefined;

  constructor(options: ConnectionManagerOptions) {
    this.options = options;
  }

  /** How many connections are open. */
  get size(): number {
    return this.open.size;
  }

  accept(stream: Stream): void {
    const { zonename, context, sweep } = this.options;
    const { observer, limits } = context;
    if (this.closed) {
      stream.destroy();
      return;
    }
    if (this.open.size >= limits.connections) {
      stream.destroy();
      observer.refused('connections', { limit: limits.connections });
      return;
    }
    const peer = this.identify(stream);
    if (peer === null) {
      stream.destroy();
      return;
    }
    const origin = { zonename, peer, readOnly: this.accessOf(peer) === 'read' };
    const connection = new Connection(stream, origin, context, () => {
      this.left(connection);
    });
    this.open.add(connection);
    this.leaveSweep ??= sweep.often(() => this.look());
    observer.opened();
  }

  /**
   * Lets nobody in any more. Who is in gets the answers to what was asked, for `graceMs` at most.
   * Resolves when all have left. Called once.
   */
  async close(graceMs: number): Promise<void> {
    this.closed = true;
    if (this.open.size === 0) {
      return;
    }
    // Once round the event loop, to hear what has been asked already.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    const empty = new Promise<void>((resolve) => {
      this.emptied = resolve;
    });
    for (const connection of this.open) {
      connection.finish();
    }
    const timer = setTimeout(() => {
      for (const connection of this.open) {
        connection.destroy();
      }
    }, graceMs);
    if (this.open.size > 0) {
      await empty;
    }
    clearTimeout(timer);
  }

  private left(connection: Connection): void {
    this.open.delete(connection);
    this.options.context.observer.closed();
    if (this.open.size === 0) {
      this.leaveSweep?.();
      this.leaveSweep = null;
      this.emptied();
    }
  }

  /** Who connected, null when it may not. */
  private identify({ fd }: Stream): PeerCredential | null {
    const { peerOf, allowed, context } = this.options;
    if (fd === undefined) {
      return null;
    }
    try {
      const peer = peerOf(fd);
      if (!allowed(peer)) {
        context.observer.refused('peer', { zoneid: peer.zoneid, pid: peer.pid, uid: peer.uid });
      } else if (this.accessOf(peer) === 'none') {
        context.observer.refused('uid', { zoneid: peer.zoneid, pid: peer.pid, uid: peer.uid });
      } else {
        return peer;
      }
    } catch (err) {
      // A peer that is gone again has no credential.
      context.observer.refused('peer', { code: codeOf(err), reason: messageOf(err) });
    }
    return null;
  }

  private accessOf(peer: PeerCredential): Access {
    return this.options.accessOf?.(peer) ?? 'all';
  }

  private look(): void {
    for (const connection of this.open) {
      connection.checkIdle();
    }
  }
}
