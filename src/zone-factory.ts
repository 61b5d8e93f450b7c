/*
 * Makes a zone with all that belongs to it: its logger, its request log, its VM data, its transport. By brand: kvm and
 * bhyve get a serial link, every other brand a socket and the management of its mount.
 */
import type { Config } from './config';
import type { NodeMetrics } from './metrics';
import { RequestLog } from './request-log';
import { zoneBytes, ZONES_AT_LIMIT, type Access, type Handle } from './transport/link';
import { MemoryQuota } from './transport/zone-quota';
import type { Watches } from './transport/watches';
import { ROOT_ONLY, WITH_READERS } from './transport/socket-file';
import { SerialLink } from './transport/serial-link';
import { SystemError } from './lib/errors';
import { PeriodicTimer } from './lib/periodic-timer';
import { Scheduler } from './lib/scheduler';
import { ZoneSocket } from './transport/socket-server';
import { ZoneLog, type Logger } from './log';
import type { PeerCredential, Platform, ZoneFacts } from './platform/libzonecfg';
import { HVM_BRANDS } from './metadata/vm-data';
import { MountTable } from './platform/mounts';
import type { Paths } from './platform/paths';
import type { ZoneRoots } from './platform/zone-root';
import type { Store } from './vm/store';
import { SocketMount, type SocketMountOptions } from './zones/socket-mount';
import { Zone, type ZoneLink } from './zones/zone';

const GLOBAL_ZONEID = 0;
const OWN_UID = process.geteuid?.() ?? 0;

export interface ZoneFactoryOptions {
  readonly paths: Paths;
  readonly platform: Platform;
  readonly roots: ZoneRoots;
  readonly store: Store;
  readonly log: Logger;
  readonly metrics: NodeMetrics;
  readonly config: Config;
  readonly handle: Handle;
  readonly watches: Watches;
}

/** Holds what all zones share. One serves the agent. */
export class ZoneFactory {
  /** One object for all links, changed in place when the configuration is. */
  private readonly limits: ReturnType<typeof linkLimits>;
  private readonly scheduler = new Scheduler();
  private readonly memory = new MemoryQuota(() => ZONES_AT_LIMIT * zoneBytes(this.limits));
  private readonly timer = new PeriodicTimer();
  private readonly mounts: SocketMountOptions;
  private readonly readers: ReadonlySet<number>;
  private readonly requestLogs = new WeakMap<Zone, RequestLog>();
  private config: Config;

  constructor(private readonly options: ZoneFactoryOptions) {
    this.config = options.config;
    this.limits = linkLimits(options.config);
    const { paths, platform } = options;
    this.mounts = { paths, platform, table: new MountTable(paths.mnttab) };
    this.readers = new Set(options.config.readers ?? []);
  }

  make(facts: ZoneFacts): Zone {
    const { paths, roots, store, metrics, handle, watches } = this.options;
    const { zonename, brand, zonepath } = facts;
    const log = this.logFor(facts);
    store.track(zonename, paths.host(zonepath), log);
    const requestLog = new RequestLog(log, metrics);
    const root = roots.of(paths.host(zonepath), log);
    const { limits, scheduler, memory } = this;
    const shared = { limits, scheduler, memory, handle, watches, log, observer: requestLog };
    const hvm = HVM_BRANDS.has(brand);
    const link: ZoneLink = hvm
      ? {
          kind: 'port',
          link: new SerialLink({
            ...shared,
            zonename,
            root,
            zoneOfPeer: (fd) => this.zoneOfPeer(fd),
            facts: async () => {
              const vm = await store.data(zonename)?.loaded();
              return vm === undefined ? undefined : { com2: store.facts(zonename)?.com2 };
            },
            metrics,
            ranBefore: facts.state === 'running',
          }),
        }
      : {
          kind: 'socket',
          link: new ZoneSocket({
            ...shared,
            zonename,
            path: paths.zoneSocket(zonename),
            timer: this.timer,
            peerOf: (fd) => this.options.platform.peer(fd),
            accessOf: (peer) => (this.isOfZone(peer, zonename) ? this.accessOf(peer) : 'peer'),
            modes: this.readers.size > 0 ? WITH_READERS : ROOT_ONLY,
          }),
        };
    const directory = hvm ? null : new SocketMount(facts, root, log, this.mounts);
    const zone = new Zone(facts, log, link, directory, root);
    this.requestLogs.set(zone, requestLog);
    return zone;
  }

  requestLogOf(zone: Zone): RequestLog | undefined {
    return this.requestLogs.get(zone);
  }

  reload(config: Config): void {
    this.config = config;
    Object.assign(this.limits, linkLimits(config));
  }

  private logFor({ zonename, brand }: ZoneFacts): ZoneLog {
    const { records_per_second, record_burst, log_bytes_per_second } = this.config.limits;
    const rate = { perSecond: records_per_second, burst: record_burst };
    const share = { ...rate, bytesPerSecond: log_bytes_per_second };
    const { log, metrics } = this.options;
    return new ZoneLog(log, zonename, brand, share, () => metrics.recordsSuppressed++);
  }

  /** Off a compute node the agent may run as a user, who is root in its simulated zones. */
  private accessOf({ uid, zoneid }: PeerCredential): Access {
    if (uid === 0 || uid === OWN_UID) {
      return 'all';
    }
    return zoneid !== GLOBAL_ZONEID && this.readers.has(uid) ? 'read' : 'uid';
  }

  /** The zone of a process that listens. For one that has ended it is not known off illumos. */
  private zoneOfPeer(fd: number): string {
    const { zoneid } = this.options.platform.peer(fd);
    if (zoneid < 0) {
      throw new SystemError('getpeerucred', `descriptor ${fd}`, 'ECONNRESET', 'it has ended');
    }
    return zoneid === GLOBAL_ZONEID ? 'global' : this.options.platform.zoneName(zoneid);
  }

  /** A zone's socket is for its own processes and the global zone's. */
  private isOfZone({ zoneid }: PeerCredential, zonename: string): boolean {
    const { platform } = this.options;
    return zoneid === GLOBAL_ZONEID || (zoneid > 0 && platform.zoneName(zoneid) === zonename);
  }
}

function linkLimits({ limits }: Config) {
  return {
    lineBytes: limits.line_bytes,
    replyBytes: limits.unsent_bytes,
    queuedRequests: limits.queued_requests,
    connections: limits.connections,
    idleMs: limits.idle_seconds * 1000,
  };
}
