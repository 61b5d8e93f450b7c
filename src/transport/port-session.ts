/*
 * One connection to a guest's port, from made to closed: counted, watched, told how it ended.
 *
 * It ends by itself, by `destroy`, by `finish`, or because the guest rebooted and the port's file is
 * another one now. Its timer and its watch end with it. Made by a serial link, which makes the next one.
 */
import type { Socket } from 'node:net';
import { Connection } from './connection';
import type { ConnectionContext } from './connection';
import { watchPort } from './port-watch';
import type { SerialStats, Visit } from './stats';
import { NetStream } from './net-stream';

/** A port that ends a connection so soon, without an octet, is held by another. */
const HELD_MS = 1000;
/** After a reboot was told: how long a new process may take to make its port. */
const REBOOT_MS = 10_000;

export interface PortSessionOptions {
  readonly zonename: string;
  readonly zoneroot: string;
  /** Path inside the zone. */
  readonly port: string;
  /** The file that was connected to. */
  readonly identity: string;
  readonly context: ConnectionContext;
  readonly tally: SerialStats;
}

/** One connection to a port; a serial link has one at most. */
export class PortSession {
  private readonly options: PortSessionOptions;
  private readonly connection: Connection;
  private readonly visit: Visit;
  private readonly settling: NodeJS.Timeout;
  private rebootEnds: NodeJS.Timeout | null = null;
  private endWatch: () => void = () => undefined;

  /** @param closed runs once, when the descriptor is closed; `held`: another has the port */
  constructor(socket: Socket, options: PortSessionOptions, closed: (held: boolean) => void) {
    const { zonename, context, tally } = options;
    this.options = options;
    const stream = new NetStream(socket);
    this.connection = new Connection(stream, { zonename, peer: null }, context, () => {
      clearTimeout(this.settling);
      this.forgetReboot();
      tally.disconnected(this.visit);
      closed(!this.visit.settled);
    });
    this.visit = tally.connected(() => this.connection.dropped);
    this.settling = setTimeout(() => tally.settle(this.visit), HELD_MS);
  }

  /**
   * The guest was told to reboot. This may be the old process's connection, which is about to close, or
   * the new one's already: only where the port's file is another one is it surely old.
   */
  guestRebooted(): void {
    const { zoneroot, port, identity } = this.options;
    this.forgetReboot();
    this.endWatch = watchPort(zoneroot, port, identity, () => this.destroy());
    this.rebootEnds = setTimeout(() => this.forgetReboot(), REBOOT_MS);
  }

  /** Answers what was heard, reads no more, then closes. */
  finish(): void {
    this.connection.finish();
  }

  destroy(): void {
    this.connection.destroy();
  }

  private forgetReboot(): void {
    clearTimeout(this.rebootEnds ?? undefined);
    this.rebootEnds = null;
    this.endWatch();
    this.endWatch = () => undefined;
  }
}
