/*
 * One event stream of vminfod, from its ready line to its end: bytes to events to the VmCache.
 *
 * Called by vminfod-client.ts, which decides when to try again. A line that is not an event ends the stream, since we no
 * longer know what we read; the next ready line gives a whole snapshot again. There is no heartbeat: silence after the
 * ready line is normal. Reading yields the event loop, as the work of those who listen to the cache may be long.
 */
import type { IncomingMessage } from 'node:http';
import { SystemError } from '../lib/errors';
import { CooperativeYield } from '../lib/scheduler';
import { BrokenLine, SnapshotParser } from './snapshot-parser';
import {
  isJsonObject,
  isZonename,
  own,
  ownMap,
  parseJsonObject,
  type JsonObject,
} from '../metadata/vm-data';
import { cutEvent, scanText, type TextOffsets } from '../platform/metadata-text';
import { MAP_NAMES, MetadataIndex } from './metadata-index';
import type { SeenVm, VmCache } from './vm-cache';

/** vminfod sends the ready line at once; a pause this long within it is a fault. */
const READY_PROGRESS_MS = 30_000;
/** An event carries a VM object and, in its changes, parts of it twice; bytes. */
const MAX_EVENT_BYTES = 32 * 1024 * 1024;
/** In a longer text metadata is only found, since a guest can make it megabytes; it is parsed where it has too many members. */
const LONG_CHARS = 256 * 1024;
/** Bytes that are read in one step: well under a millisecond. */
const STEP_BYTES = 64 * 1024;
const LF = 0x0a;

/**
 * Follows the stream until it ends: rejects with a SystemError or a BrokenLine, or with the signal's reason.
 *
 * @param response to GET /events of the url, whose request the signal aborts
 * @param onReady is called when the table holds the first snapshot
 */
export async function followEvents(
  url: string,
  response: IncomingMessage,
  table: VmCache,
  signal: AbortSignal,
  onReady: () => void,
): Promise<never> {
  const timer = setTimeout(() => {
    response.destroy(new SystemError('GET /events', url, 'ETIMEDOUT', 'no ready line'));
  }, READY_PROGRESS_MS);
  const reader = new EventReader(table, signal, () => {
    clearTimeout(timer);
    onReady();
  });
  const chunks: AsyncIterable<Buffer> = response;
  try {
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += STEP_BYTES) {
        await reader.read(chunk.subarray(at, at + STEP_BYTES));
      }
      if (!reader.ready) {
        timer.refresh();
      }
    }
    throw new SystemError('GET /events', url, 'ECONNRESET', 'the stream ended');
  } catch (err) {
    // An aborted request fails with an error of its own; why it was aborted says more.
    throw signal.aborted ? signal.reason : err;
  } finally {
    clearTimeout(timer);
  }
}

class EventReader {
  ready = false;
  private readonly listed = new Set<string>();
  private readonly snapshot = new SnapshotParser((json) => {
    const seen = readVm(json);
    if (seen === undefined) {
      throw new BrokenLine('a VM of the ready line is not JSON');
    }
    // A VM without a usable name is not a zone that anyone could ask for; the others are not affected.
    const zonename = this.table.put(seen);
    if (zonename !== undefined) {
      this.listed.add(zonename);
    }
  });
  private readonly yielding = new CooperativeYield();
  private pending: Buffer[] = [];
  private pendingBytes = 0;

  constructor(
    private readonly table: VmCache,
    private readonly signal: AbortSignal,
    private readonly onReady: () => void,
  ) {}

  async read(chunk: Buffer): Promise<void> {
    for (let from = 0, end; from < chunk.length; from = end) {
      end = chunk.indexOf(LF, from) + 1 || chunk.length;
      await this.readPart(chunk.subarray(from, end));
    }
    await this.pause();
  }

  /** Part of a line, or the whole, with the LF where it has one. */
  private async readPart(part: Buffer): Promise<void> {
    if (!this.ready) {
      if (this.snapshot.push(part)) {
        await this.removeUnlisted();
        this.ready = true;
        this.onReady();
      }
      return;
    }
    this.pending.push(part);
    this.pendingBytes += part.length;
    if (this.pendingBytes > MAX_EVENT_BYTES) {
      throw new BrokenLine('an event does not end');
    }
    if (part.at(-1) === LF) {
      const line = Buffer.concat(this.pending);
      this.pending = [];
      this.pendingBytes = 0;
      await this.apply(line);
      await this.pause();
    }
  }

  private async pause(): Promise<void> {
    await this.yielding.pause();
    this.signal.throwIfAborted();
  }

  /** What was there before and is not in a whole ready line is gone. */
  private async removeUnlisted(): Promise<void> {
    for (const zonename of this.table.zonenames().filter((name) => !this.listed.has(name))) {
      this.table.remove(zonename);
      await this.pause();
    }
    this.listed.clear();
  }

  private async apply(line: Buffer): Promise<void> {
    const { type, zonename, seen } = await readEvent(line);
    this.signal.throwIfAborted();
    if (type === 'delete' && isZonename(zonename)) {
      this.table.remove(zonename);
      return;
    }
    if ((type !== 'create' && type !== 'modify') || seen === undefined) {
      throw new BrokenLine('an event is not of a known kind');
    }
    if (this.table.put(seen) === undefined) {
      throw new BrokenLine('an event names no zone');
    }
  }
}

/** A long event is cut on a thread of the pool. Rejects with a BrokenLine. */
async function readEvent(line: Buffer) {
  const parts = line.length > LONG_CHARS ? await cutEvent(line) : undefined;
  if (parts !== undefined) {
    const valueOf = (json: string): unknown => (json === '' ? undefined : JSON.parse(json));
    const seen = parts.vm.length === 0 ? undefined : cutVm(parts.vm, parts.offsets);
    return { type: valueOf(parts.type), zonename: valueOf(parts.zonename), seen };
  }
  const event = parseJsonObject(line.toString('utf8'));
  if (event === undefined) {
    throw new BrokenLine('an event is not a JSON object');
  }
  const vm = own(event, 'vm');
  const seen = isJsonObject(vm) ? seenVm(vm) : undefined;
  return { type: own(event, 'type'), zonename: own(event, 'zonename'), seen };
}

/** A VM's object and its metadata; undefined for what is not a JSON object. */
function readVm(json: string): SeenVm | undefined {
  if (json.length > LONG_CHARS) {
    const bytes = Buffer.from(json);
    const offsets = scanText(bytes);
    if (typeof offsets !== 'string') {
      return cutVm(bytes, offsets);
    }
  }
  const vm = parseJsonObject(json);
  return vm && seenVm(vm);
}

function seenVm(vm: JsonObject): SeenVm {
  const customer = ownMap(vm, 'customer_metadata');
  return { vm, metadata: { customer, internal: ownMap(vm, 'internal_metadata') } };
}

/** The VM without what its two maps hold, and the maps over its text, in which their values stay. */
function cutVm(json: Buffer, offsets: TextOffsets): SeenVm | undefined {
  const index = new MetadataIndex(offsets);
  const places = MAP_NAMES.map((map) => index.map(map)).filter(({ state }) => state === 'object');
  places.sort((a, b) => a.valueStart - b.valueStart);
  let text = '';
  let from = 0;
  for (const { valueStart, valueEnd } of places) {
    text += `${json.toString('utf8', from, valueStart)}{}`;
    from = valueEnd;
  }
  const vm = parseJsonObject(text + json.toString('utf8', from));
  return vm && { vm, metadata: index.mapsIn(json) };
}
