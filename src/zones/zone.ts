/*
 * One zone of the node, from its discovery to its deletion, and the link its guest talks through.
 *
 *   halted <--> ready <--> running     events can be lost: each of the three may follow each other one
 *   any of them --stop, close--> closing --> closed
 *
 * The registry passes on what the platform says; a zone never asks for itself. An OS zone's socket exists in every state,
 * since it must be there before the zone boots; its directory's mount and an HVM zone's port change with the state.
 */
import type { ZoneLog } from '../log';
import { Fsm, type StateRecord, type States } from '../lib/fsm';
import type { Link } from '../transport/link';
import type { SerialLink } from '../transport/serial-link';
import type { ZoneSocket } from '../transport/socket-server';
import type { ZoneRoot } from '../platform/zone-root';
import type { ZoneFacts } from '../platform/libzonecfg';
import { phaseOf, type Phase } from './events';
import type { MountCheck, SocketMount } from './socket-mount';

export type ZoneMachineState = Phase | 'closing' | 'closed';

export type SocketLink = Link & Pick<ZoneSocket, 'start' | 'remove' | 'history' | 'file'>;
export type PortLink = Link &
  Pick<SerialLink, 'zoneRunning' | 'zoneStopped' | 'guestRebooted' | 'history' | 'counts'>;
export type ZoneLink =
  | { readonly kind: 'socket'; readonly link: SocketLink }
  | { readonly kind: 'port'; readonly link: PortLink };

/** What a zone asks of the mount of its socket's directory. */
export type MountManager = Pick<
  SocketMount,
  'moved' | 'check' | 'lastCheck' | 'state' | 'mountPoint'
>;

/** One zone: `stop` or `close` is its end. */
export class Zone {
  private static readonly states: States<ZoneMachineState, Zone> = {
    halted: { next: ['ready', 'running', 'closing'], enter: (_, zone) => zone.enter('halted') },
    ready: { next: ['halted', 'running', 'closing'], enter: (_, zone) => zone.enter('ready') },
    running: { next: ['halted', 'ready', 'closing'], enter: (_, zone) => zone.enter('running') },
    closing: { next: ['closed'], enter: () => undefined },
    closed: { next: [], enter: () => undefined },
  };

  private readonly machine: Fsm<ZoneMachineState, Zone>;
  private ending: Promise<void> | null = null;

  /** @param directory null for HVM zones: nothing is mounted there */
  constructor(
    readonly facts: ZoneFacts,
    readonly log: ZoneLog,
    readonly link: ZoneLink,
    readonly directory: MountManager | null,
    readonly root: ZoneRoot,
  ) {
    this.machine = new Fsm(
      facts.zonename,
      Zone.states,
      phaseOf(facts.state),
      this,
      (state, previous, zone) => zone.log.debug({ state, previous }, 'zone state'),
    );
    this.machine.start();
  }

  get zonename(): string {
    return this.facts.zonename;
  }

  get state(): ZoneMachineState {
    return this.machine.state;
  }

  history(): readonly StateRecord<ZoneMachineState>[] {
    return this.machine.history();
  }

  /** False while a file system below its root does not answer. */
  get answers(): boolean {
    return this.root.answers;
  }

  /** Whether it runs with our directory; `unknown` also where it should have none. */
  mountCheck(): MountCheck {
    return this.directory?.lastCheck() ?? 'unknown';
  }

  /** Resolves when an OS zone's socket listens; at once for an HVM zone. */
  async start(): Promise<void> {
    const { kind, link } = this.link;
    if (this.ending === null && kind === 'socket') {
      await link.start();
    }
  }

  /** What the platform says the zone is now. */
  moved(phase: Phase): void {
    if (this.ending === null && this.machine.state !== phase) {
      this.machine.goto(phase);
    }
  }

  /** Its hypervisor was executed again in the running zone. */
  guestRebooted(): void {
    if (this.link.kind === 'port') {
      this.link.link.guestRebooted();
    }
  }

  /** The zone was deleted: takes away what it left on the node, too. Idempotent. */
  close(): Promise<void> {
    return this.end(0, true);
  }

  /** The agent stops: answers what was asked, within `graceMs`; the socket's file stays. Idempotent. */
  stop(graceMs: number): Promise<void> {
    return this.end(graceMs, false);
  }

  private end(graceMs: number, isDeleted: boolean): Promise<void> {
    this.ending ??= (async () => {
      const { kind, link } = this.link;
      this.machine.goto('closing');
      this.directory?.moved('halted');
      await link.stop(graceMs);
      if (isDeleted && kind === 'socket') {
        link.remove();
      }
      this.machine.goto('closed');
    })();
    return this.ending;
  }

  private enter(phase: Phase): void {
    const { kind, link } = this.link;
    this.directory?.moved(phase);
    if (kind === 'port' && phase === 'running') {
      link.zoneRunning();
    } else if (kind === 'port') {
      // While the zone is ready its hypervisor is not started yet: the port is an earlier run's.
      link.zoneStopped();
    }
  }
}
