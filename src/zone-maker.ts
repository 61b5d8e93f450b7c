/*
 * Makes a zone with all that belongs to it: its voice in the log, its journal, its VM data, its link.
 *
 * By brand: kvm and bhyve get a serial link, every other brand a socket and the duty for its mount.
 */
import type { Config } from './config';
import type { Figures } from './figures';
import { Journal } from './journal';
import type { LinkLimits } from './links/limits';
import type { Handle } from './links/link';
import { SerialLink } from './links/serial';
import type { PortFacts } from './links/serial-options';
import { Sweep } from './links/sweep';
import { Turns } from './links/turns';
import { Turnstile } from './links/turnstile';
import { ZoneSocket } from './links/zone-socket';
import { ZoneLog, type Logger } from './log';
import { PortJournal } from './port-journal';
import type { PeerCredential, Platform } from './sys/ffi';
import { openMounts } from './sys/mounts';
import { openPeers, type Peers } from './sys/native';
import type { Paths } from './sys/paths';
import type { Store } from './vm/store';
import { brandMounts, FolderMount, type FolderMountOptions } from './zones/folder-mount';
import type { ZoneFacts } from './zones/picture';
import { Zone, type ZoneLink } from './zones/zone';

const HVM_BRANDS: readonly string[] = ['kvm', 'bhyve'];
const GLOBAL_ZONEID = 0;

export interface ZoneMakerOptions {
  readonly paths: Paths;
  readonly platform: Platform;
  readonly store: Store;
  readonly log: Logger;
  readonly figures: Figures;
  readonly config: Config;
  readonly handle: Handle;
}

/** Holds what all zones share: limits, turns, the sweep. One serves the agent. */
export class ZoneMaker {
  private readonly options: ZoneMakerOptions;
  /** One object for all links, changed in place when the configuration is. */
  private readonly limits: { -readonly [K in keyof LinkLimits]: LinkLimits[K] };
  private readonly turns = new Turns();
  private readonly turnstile = new Turnstile();
  private readonly sweep = new Sweep();
  private readonly folders: FolderMountOptions;
  private readonly peers: Peers;
  private readonly journals = new WeakMap<Zone, Journal>();
  private config: Config;

  constructor(options: ZoneMakerOptions) {
    this.options = options;
    this.config = options.config;
    this.limits = linkLimits(options.config);
    this.folders = this.folderOptions();
    this.peers = openPeers(options.paths.root);
  }

  make(facts: ZoneFacts): Zone {
    const { paths, store, figures, handle } = this.options;
    const { zonename, brand, zonepath } = facts;
    const log = this.logFor(facts);
    store.track(zonename, paths.host(zonepath), log);
    const journal = new Journal(log, figures);
    const common = {
      zonename,
      handle,
      observer: journal,
      limits: this.limits,
      turns: this.turns,
      log,
    };
    const hvm = HVM_BRANDS.includes(brand);
    const link: ZoneLink = hvm
      ? {
          kind: 'port',
          link: new SerialLink({
            ...common,
            turnstile: this.turnstile,
            zoneroot: paths.host(`${zonepath}/root`),
            facts: () => this.portFacts(zonename),
            portObserver: new PortJournal(log, figures),
            ranBefore: facts.state === 'running',
          }),
        }
      : {
          kind: 'socket',
          link: new ZoneSocket({
            ...common,
            path: paths.zoneSocket(zonename),
            sweep: this.sweep,
            peerOf: (fd) => this.peers.peer(fd),
            allowed: (peer) => this.isOfZone(peer, zonename),
          }),
        };
    const folder = hvm ? null : new FolderMount(facts, log, this.folders);
    const zone = new Zone(facts, { log, link, folder });
    this.journals.set(zone, journal);
    return zone;
  }

  journalOf(zone: Zone): Journal | undefined {
    return this.journals.get(zone);
  }

  reload(config: Config): void {
    this.config = config;
    Object.assign(this.limits, linkLimits(config));
  }

  private logFor({ zonename, brand }: ZoneFacts): ZoneLog {
    const { records_per_second: perSecond, record_burst: burst } = this.config.limits;
    const { log, figures } = this.options;
    return new ZoneLog(log, zonename, brand, { perSecond, burst }, () => {
      figures.recordsLeftOut++;
    });
  }

  private folderOptions(): FolderMountOptions {
    const { paths, platform, config } = this.options;
    // A brand's files are part of the platform image: they change with a boot of the node.
    const brands = new Map<string, boolean | undefined>();
    return {
      paths,
      mounts: openMounts(platform, paths.mnttab),
      mountRunning: config.mount_running_zones,
      isReady: (zonename) => platform.zoneState(zonename) === 'ready',
      brandMounts: (brand) => {
        const known = brands.get(brand) ?? brandMounts(paths, brand);
        brands.set(brand, known);
        return known;
      },
    };
  }

  private async portFacts(zonename: string): Promise<PortFacts | undefined> {
    const { store } = this.options;
    const vm = await store.data(zonename)?.loaded();
    return vm === undefined ? undefined : { com2: store.facts(zonename)?.com2 };
  }

  /** A zone's socket is for its own processes and the global zone's. */
  private isOfZone(peer: PeerCredential, zonename: string): boolean {
    if (peer.zoneid === GLOBAL_ZONEID) {
      return true;
    }
    return peer.zoneid > 0 && this.peers.zoneName(peer.zoneid) === zonename;
  }
}

function linkLimits(config: Config): { -readonly [K in keyof LinkLimits]: LinkLimits[K] } {
  const { limits } = config;
  return {
    lineBytes: limits.line_bytes,
    unsentBytes: limits.unsent_bytes,
    queuedRequests: limits.queued_requests,
    connections: limits.connections,
    idleMs: limits.idle_seconds * 1000,
  };
}
