/*
 * The live audit: audits the delegated datasets of each zone that is created, changes or boots, and logs
 * a warning once for each change of what is wrong.
 *
 *   VM data, zone events --touch--> dirty --a few an iteration--> auditVm --> warning, counters
 *   `zfs list`, at most once a minute --> usage -----------^
 *
 * Nothing waits for it, and requests go first. Many touches of a VM before its audit are one audit. While the policy is
 * switched off it does nothing and holds nothing.
 */
import { existsSync } from 'node:fs';
import { messageOf } from '../lib/errors';
import { TaskQueue } from '../lib/scheduler';
import type { Logger } from '../log';
import { zonerootOf } from '../metadata/datasets';
import type { JsonObject, VmFacts } from '../metadata/vm-data';
import { run } from '../platform/exec';
import { auditVm, type Audit, type AuditRule, type SafePolicy, type Usage } from './policy';

/** Audits in one iteration of the event loop: below a millisecond. */
const ITERATION_VMS = 8;
const USAGE_MS = 60_000;

/** What makes the output that this file reads. */
const ZFS_LIST = 'list -H -p -t filesystem,volume,snapshot -o name,type'.split(' ');

/** A listing of some ten thousand snapshots takes seconds; one that takes longer hangs. */
const ZFS_MS = 10_000;

export type NodeUsage =
  | { readonly kind: 'known'; readonly usage: ReadonlyMap<string, Usage> }
  /** `fault`: there is a zfs, and it did not do its work. */
  | { readonly kind: 'unknown'; readonly why: string; readonly fault: boolean };

export interface LiveAuditOptions {
  readonly policy: SafePolicy;
  /** `uname -v` of the node; undefined off SmartOS. */
  readonly platform: string | undefined;
  /** The VMs as they are known now. */
  readonly vms: {
    zonenames(): readonly string[];
    vm(zonename: string): JsonObject | undefined;
    facts(zonename: string): Pick<VmFacts, 'delegates'> | undefined;
  };
  readonly listUsage: () => Promise<NodeUsage>;
  readonly log: Logger;
  /** Least time between two listings of use, ms. */
  readonly usageMs?: number;
}

/** Audits from `start` to `stop`. */
export class LiveAudit {
  private policy: SafePolicy;
  /** Something happened to them since their last audit. */
  private readonly dirty = new Set<string>();
  private readonly queue = new TaskQueue({ tasks: ITERATION_VMS });
  /** For as long as vminfod knows the VM, so that it does not become plain by losing its last mark of "safe". */
  private readonly audits = new Map<string, Audit>();
  /** The last good listing. A failed one changes nothing here: it would be reported as a change. */
  private usage: ReadonlyMap<string, Usage> = new Map();
  private listedAt = -Infinity;
  /** Until a listing that was asked for is there. */
  private listTimer: NodeJS.Timeout | null = null;
  private listFault = '';
  private state: 'new' | 'running' | 'stopped' = 'new';
  private warnings = 0;

  constructor(private readonly options: LiveAuditOptions) {
    this.policy = options.policy;
  }

  /** Audits the VMs that are known, and from now on those that are touched. */
  start(): void {
    if (this.state === 'new') {
      this.state = 'running';
      this.touchAll();
    }
  }

  /** Idempotent. A listing in progress ends within its own limit and is ignored. */
  stop(): void {
    this.state = 'stopped';
    this.dirty.clear();
    clearTimeout(this.listTimer ?? undefined);
  }

  /** A zone was created, changed or booted. */
  touch(zonename: string): void {
    if (this.state !== 'running' || !this.policy.enabled || this.dirty.has(zonename)) {
      return;
    }
    this.dirty.add(zonename);
    this.queue.add(() => {
      if (this.dirty.delete(zonename)) {
        this.audit(zonename);
        if (this.audits.has(zonename)) {
          this.requestUsage();
        }
      }
    });
  }

  /** The VM is gone; one that comes under its name later has no history. */
  remove(zonename: string): void {
    this.dirty.delete(zonename);
    this.audits.delete(zonename);
  }

  /** Applies a new policy to all VMs, those included that nothing happens to. */
  reload(policy: SafePolicy): void {
    if (JSON.stringify(policy) === JSON.stringify(this.policy)) {
      return;
    }
    this.policy = policy;
    if (!policy.enabled) {
      this.dirty.clear();
      this.audits.clear();
    }
    this.touchAll();
  }

  /** The last audit of a VM; undefined where it has no delegated dataset or is not audited yet. */
  lastOf(zonename: string): Audit | undefined {
    return this.audits.get(zonename);
  }

  /** VMs by verdict; and by each rule that they break. Warnings are counted since the start. */
  counts() {
    const verdicts = { safe: 0, unsafe: 0, unknown: 0, exempt: 0 };
    const rules: Partial<Record<AuditRule, number>> = {};
    for (const audit of this.audits.values()) {
      verdicts[audit.kind]++;
      // Each rule once, however many members break it.
      const broken = audit.kind === 'unsafe' ? audit.findings.map(({ rule }) => rule) : [];
      for (const rule of new Set(broken)) {
        rules[rule] = (rules[rule] ?? 0) + 1;
      }
    }
    return { enabled: this.policy.enabled, verdicts, rules, warnings: this.warnings };
  }

  private touchAll(): void {
    this.options.vms.zonenames().forEach((zonename) => this.touch(zonename));
  }

  private audit(zonename: string): void {
    const { vms, platform, log } = this.options;
    const last = this.audits.get(zonename);
    // Few VMs have, or had, delegated datasets: the others need not even be parsed.
    const isConcerned = last !== undefined || vms.facts(zonename)?.delegates === true;
    const vm = isConcerned && this.state === 'running' ? vms.vm(zonename) : undefined;
    if (vm === undefined) {
      return;
    }
    const usage = this.usage.get(zonerootOf(vm) ?? '');
    const audit = auditVm(vm, this.policy, { platform, usage, last });
    if (audit === undefined) {
      this.audits.delete(zonename);
    } else {
      this.audits.set(zonename, audit);
    }
    if (audit?.signature === last?.signature) {
      return;
    }
    if (audit?.kind === 'unsafe') {
      this.warnings++;
      const { datasets, findings } = audit;
      log.warn({ zonename, datasets, findings }, 'delegated dataset is unsafe for the node');
    } else if (last?.kind === 'unsafe') {
      log.info({ zonename, verdict: audit?.kind ?? 'none' }, 'delegated dataset is unsafe no more');
    }
  }

  /** Lists use now or when the last listing is old enough, and once for all who ask meanwhile. */
  private requestUsage(): void {
    const age = performance.now() - this.listedAt;
    const wait = Math.max(0, (this.options.usageMs ?? USAGE_MS) - age);
    // What it finds is of no use to a process that has nothing else to do.
    this.listTimer ??= setTimeout(() => void this.takeUsage(), wait).unref();
  }

  private async takeUsage(): Promise<void> {
    this.listedAt = performance.now();
    const listed = await this.options.listUsage();
    this.listTimer = null;
    if (this.state === 'stopped') {
      return;
    }
    const fault = listed.kind === 'unknown' && listed.fault ? listed.why : '';
    if (fault !== '' && fault !== this.listFault) {
      this.options.log.warn({ why: fault }, 'use of datasets cannot be listed');
    }
    this.listFault = fault;
    if (listed.kind === 'known') {
      this.usage = listed.usage;
      for (const zonename of this.audits.keys()) {
        this.queue.add(() => this.audits.has(zonename) && this.audit(zonename));
      }
    }
  }
}

/** Never rejects. @param zfs its path on this machine */
export async function listUsage(zfs: string): Promise<NodeUsage> {
  if (!existsSync(zfs)) {
    return { kind: 'unknown', why: `${zfs} is not there`, fault: false };
  }
  try {
    const { stdout } = await run([zfs, ...ZFS_LIST], { timeoutMs: ZFS_MS });
    return { kind: 'known', usage: parseZfsList(stdout) };
  } catch (err) {
    return { kind: 'unknown', why: messageOf(err), fault: true };
  }
}

/**
 * Reads a whole listing, and sums up every dataset in one pass. The numbers mean what ZFS compares with its limits
 * (illumos dsl_dir.c, dsl_fs_ss_limit_check): snapshots of the dataset and of everything below it; filesystems and
 * volumes below it, without the dataset itself. Types other than the three (bookmarks) are left out.
 * @throws Error where a line is unreadable: no number could be trusted
 */
export function parseZfsList(text: string): ReadonlyMap<string, Usage> {
  const usage = new Map<string, { snapshots: number; filesystems: number }>();
  const sumOf = (dataset: string): { snapshots: number; filesystems: number } => {
    const sum = usage.get(dataset) ?? { snapshots: 0, filesystems: 0 };
    usage.set(dataset, sum);
    return sum;
  };
  for (const [index, line] of text.split('\n').entries()) {
    const [name = '', type, ...others] = line.split('\t');
    const isSnapshot = type === 'snapshot';
    const dataset = isSnapshot ? name.slice(0, Math.max(0, name.indexOf('@'))) : name;
    if (line === '') {
      continue;
    }
    if (dataset === '' || type === undefined || others.length > 0) {
      throw new Error(`zfs list: line ${index + 1} is unreadable`);
    }
    if (!isSnapshot && type !== 'filesystem' && type !== 'volume') {
      continue;
    }
    sumOf(dataset);
    // `a/b/c` counts for `a/b` and `a`, a snapshot of it also for itself.
    const levels = dataset.split('/');
    for (let depth = isSnapshot ? levels.length : levels.length - 1; depth > 0; depth--) {
      sumOf(levels.slice(0, depth).join('/'))[isSnapshot ? 'snapshots' : 'filesystems']++;
    }
  }
  return usage;
}
