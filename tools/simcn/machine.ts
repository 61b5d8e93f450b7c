/*
 * What the parts of a node share: handed to whoever moves zones, changed by nobody after `simcn up`.
 */
import type { Platform } from '../../src/platform/libzonecfg';
import type { Paths } from '../../src/platform/paths';
import type { JsonObject } from '../../src/metadata/vm-data';
import type { FaultTable } from './faults';
import type { Kernel } from './kernel';
import type { VmStore } from './store';

export interface NodeOptions {
  /** A platform from before December 2016: its brands do not mount the socket directory. */
  readonly oldPlatform: boolean;
  /** How long a zone stays ready before it boots: the time in which an agent can mount. */
  readonly readyMs: number;
  /** Native zones run their mdata services when they boot: the operator's script and the user's. */
  readonly services: boolean;
}

/** The part of vminfod that the node tells of its VMs. */
export interface VmFeed {
  /** A VM is there, or is other than it was. */
  modified(vm: JsonObject): void;
  deleted(zonename: string): void;
}

export interface Machine {
  readonly paths: Paths;
  readonly platform: Platform;
  readonly kernel: Kernel;
  readonly store: VmStore;
  readonly feed: VmFeed;
  readonly faults: FaultTable;
  readonly options: NodeOptions;
  /** Tells the person at the terminal (stderr), each text once. */
  readonly notice: (text: string) => void;
}
