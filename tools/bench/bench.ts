/*
 * The benchmark: which measurements there are, on which nodes, in what order.
 *
 * What is measured, and what the goal is, say the files `*-rows.ts`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arrivalRows, idleRow, manyZonesRows } from './many-zones-rows';
import type { Instruments, Scale } from './instruments';
import { Disk } from './disk';
import { HOSTILE_NODE_ZONES, hostileRows } from './hostile-rows';
import { Client } from './load';
import { BenchNode } from './node';
import { listingRows } from './listing-rows';
import type { Processes } from './processes';
import { fairnessRow, partsOfFloor, requestRows, SOCKETS } from './request-rows';
import { rowOf, type Goal, type Row } from './report';
import { START_ZONES, startRows } from './start-rows';
import { watchedZones, watchRows } from './watch-rows';
import { piecesRow, putRows, WRITERS } from './write-rows';

/** One run of the benchmark. Its nodes and files are gone when `run` has ended, however it did. */
export class Bench implements Instruments {
  readonly scale: Scale;
  readonly client: Client;
  readonly disk: Disk;
  private readonly directory = mkdtempSync(join(tmpdir(), 'mb-'));
  private readonly processes: Processes;
  private readonly onRow: (row: Row) => void;

  constructor(scale: Scale, processes: Processes, onRow: (row: Row) => void) {
    this.scale = scale;
    this.processes = processes;
    this.onRow = onRow;
    this.client = new Client(this.directory, processes);
    this.disk = new Disk(this.directory, processes);
  }

  async run(): Promise<void> {
    try {
      await this.measure();
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }

  addRow(name: string, unit: string, goal: Goal, values: readonly number[], note = ''): void {
    this.onRow(rowOf(name, unit, goal, values, note, this.scale.judged));
  }

  private async measure(): Promise<void> {
    await listingRows(this, this.directory);
    await this.onNode(WRITERS, async (node) => {
      const { pid } = await node.startAgent();
      const floor = await node.startFloor(SOCKETS);
      await requestRows(this, node, pid, floor);
      await fairnessRow(this, node);
      await node.stopFloor();
      await this.onNode(WRITERS, (bare) => putRows(this, node, bare));
      await piecesRow(this, node);
    });
    await this.onNode(watchedZones(this.scale), (node) => watchRows(this, node));
    await this.onNode(HOSTILE_NODE_ZONES, (node) => hostileRows(this, node));
    const calm = await this.onNode(1, (node) => partsOfFloor(this, node));
    await this.onNode(this.scale.manyZones, (node) => manyZonesRows(this, node, calm));
    await this.onNode(START_ZONES, (node) => startRows(this, node));
    await this.onNode(this.scale.idleZones, async (node) => {
      await idleRow(this, node);
      await arrivalRows(this, node);
    });
  }

  private async onNode<T>(zones: number, work: (node: BenchNode) => Promise<T>): Promise<T> {
    const node = new BenchNode(this.directory, zones, this.processes);
    try {
      await node.up();
      return await work(node);
    } finally {
      await node.down();
    }
  }
}
