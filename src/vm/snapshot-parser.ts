/*
 * Reads the first line of vminfod's event stream as its bytes come in, and cuts it into VMs.
 *
 *   {"type":"ready", ... ,"vms":"[{\"uuid\": ... },{ ... }]"}\n
 *   |------ head --------------||----- a string of JSON ---||tail
 *
 * The line is tens of megabytes on a full node. Parsed in one piece it would delay every guest for most
 * of a second and cost several times its size in memory; cut into VMs as it comes, each VM is
 * parsed alone and the line itself is never whole anywhere. Pure: bytes in, pieces out.
 *
 * What a piece holds between its braces is not checked here beyond its brackets: whoever parses it does.
 * The line as such may be of any length; one VM and the number of VMs are bounded.
 */
import { own, parseJsonObject } from '../metadata/vm-data';

/** More than metadata at its limit and the longest VM object known, with room, bytes. */
const MAX_VM_BYTES = 64 * 1024 * 1024;
/** Zone ids end at 9,999; more VMs than this are no node. */
const MAX_VMS = 65536;
/** Members besides `vms` are a date and an id, bytes. */
const MAX_ENVELOPE_BYTES = 64 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LF = 0x0a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
/** What follows a backslash in a JSON string, and the byte that it stands for. */
const ESCAPES: ReadonlyMap<number, number> = new Map([
  [QUOTE, QUOTE],
  [BACKSLASH, BACKSLASH],
  [0x2f, 0x2f],
  [0x62, 0x08],
  [0x66, 0x0c],
  [0x6e, LF],
  [0x72, 0x0d],
  [0x74, 0x09],
]);
const LOWER_U = 0x75;

/** The line is not what it should be. Its text names the fault, never content. */
export class BrokenLine extends Error {
  readonly code = 'EBADMSG';

  constructor(reason: string) {
    super(reason);
    this.name = 'BrokenLine';
  }
}

type Place = 'head' | 'vms' | 'tail' | 'done';
/** In the inner text: before `[`, between elements, in one, behind `]`. */
type Inner = 'before' | 'between' | 'element' | 'behind';

/** Reads one line; another line takes another one. */
export class SnapshotParser {
  private place: Place = 'head';
  private head = Buffer.alloc(0);
  private tail = '';
  /** Bytes of an escape that the end of a chunk cut, its backslash included. */
  private escape = '';
  private inner: Inner = 'before';
  private depth = 0;
  private inString = false;
  private innerEscaped = false;
  private piece = Buffer.allocUnsafe(16 * 1024);
  private pieceLength = 0;
  private count = 0;

  /** @param onVm gets the JSON text of each VM, in bytes that are its own only while it is called */
  constructor(private readonly onVm: (json: Buffer) => void) {}

  get done(): boolean {
    return this.place === 'done';
  }

  /**
   * Takes the next bytes. Returns how many of them belong to this line: fewer than given once it is done.
   * Throws BrokenLine.
   */
  push(chunk: Buffer): number {
    let at = 0;
    if (this.place === 'head') {
      at = this.readHead(chunk);
    }
    if (this.place === 'vms') {
      at = this.readVms(chunk, at);
    }
    if (this.place === 'tail') {
      at = this.readTail(chunk, at);
    }
    return at;
  }

  /**
   * A VM's object holds secrets, and would stay in memory as long as the stream. Nothing is pushed after
   * this.
   */
  wipe(): void {
    this.piece.fill(0);
    this.piece = Buffer.alloc(0);
  }

  private readHead(chunk: Buffer): number {
    const before = this.head.length;
    const text = Buffer.concat([this.head, chunk.subarray(0, MAX_ENVELOPE_BYTES)]);
    const lineEnd = text.indexOf(LF);
    const marker = /"vms"[ \t\r]*:[ \t\r]*"/.exec(text.toString('latin1'));
    if (lineEnd !== -1 && (marker === null || lineEnd < marker.index)) {
      throw new BrokenLine('first line is no ready line');
    }
    if (marker === null && text.length > MAX_ENVELOPE_BYTES) {
      throw new BrokenLine('no VMs at the start of the first line');
    }
    if (text.length > 0 && text[0] !== OPEN_BRACE) {
      throw new BrokenLine('first line is no object');
    }
    if (marker === null) {
      this.head = text;
      return chunk.length;
    }
    const end = marker.index + marker[0].length;
    this.head = Buffer.from(text.subarray(0, end));
    this.place = 'vms';
    return end - before;
  }

  private readVms(chunk: Buffer, from: number): number {
    for (let at = from; at < chunk.length; at++) {
      const byte = chunk[at] ?? 0;
      if (this.escape !== '') {
        this.readEscape(byte);
      } else if (byte === BACKSLASH) {
        this.escape = '\\';
      } else if (byte === QUOTE) {
        if (this.inner !== 'behind') {
          throw new BrokenLine('list of VMs is cut');
        }
        this.place = 'tail';
        return at + 1;
      } else if (byte < 0x20) {
        throw new BrokenLine('control character in the list of VMs');
      } else {
        this.take(byte);
      }
    }
    return chunk.length;
  }

  private readEscape(byte: number): void {
    if (this.escape === '\\' && byte !== LOWER_U) {
      this.escape = '';
      const plain = ESCAPES.get(byte);
      if (plain === undefined) {
        throw new BrokenLine('bad escape in the list of VMs');
      }
      this.take(plain);
      return;
    }
    this.escape += String.fromCharCode(byte);
    if (this.escape.length < 6) {
      return;
    }
    const escape = this.escape;
    this.escape = '';
    if (!/^\\u[0-9a-fA-F]{4}$/.test(escape)) {
      throw new BrokenLine('bad escape in the list of VMs');
    }
    const unit = parseInt(escape.slice(2), 16);
    // Beyond ASCII it can only stand in a string, where the escape itself means the same.
    for (const each of unit < 0x80 ? [unit] : Buffer.from(escape, 'latin1')) {
      this.take(each);
    }
  }

  /** One byte of the inner text. */
  private take(byte: number): void {
    if (this.inner !== 'element') {
      this.takeBetween(byte);
      return;
    }
    this.keep(byte);
    if (this.inString) {
      if (this.innerEscaped) {
        this.innerEscaped = false;
      } else {
        this.innerEscaped = byte === BACKSLASH;
        this.inString = byte !== QUOTE;
      }
    } else if (byte === QUOTE) {
      this.inString = true;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      this.depth++;
    } else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --this.depth === 0) {
      this.inner = 'between';
      if (++this.count > MAX_VMS) {
        throw new BrokenLine('too many VMs');
      }
      this.onVm(this.piece.subarray(0, this.pieceLength));
    }
  }

  private takeBetween(byte: number): void {
    if (byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)) {
      return;
    }
    if (this.inner === 'before' && byte === OPEN_BRACKET) {
      this.inner = 'between';
    } else if (this.inner === 'between' && byte === OPEN_BRACE) {
      this.inner = 'element';
      this.depth = 1;
      this.pieceLength = 0;
      this.keep(byte);
    } else if (this.inner === 'between' && byte === CLOSE_BRACKET) {
      this.inner = 'behind';
    } else if (this.inner !== 'between' || byte !== COMMA) {
      throw new BrokenLine('list of VMs is no list of objects');
    }
  }

  private keep(byte: number): void {
    if (this.pieceLength === this.piece.length) {
      if (this.pieceLength >= MAX_VM_BYTES) {
        throw new BrokenLine('a VM is too large');
      }
      const larger = Buffer.allocUnsafe(this.piece.length * 2);
      this.piece.copy(larger);
      this.piece.fill(0);
      this.piece = larger;
    }
    this.piece[this.pieceLength++] = byte;
  }

  private readTail(chunk: Buffer, from: number): number {
    const lineEnd = chunk.indexOf(LF, from);
    const end = lineEnd === -1 ? chunk.length : lineEnd;
    this.tail += chunk.toString('latin1', from, end);
    if (this.tail.length > MAX_ENVELOPE_BYTES) {
      throw new BrokenLine('first line does not end');
    }
    if (lineEnd === -1) {
      return chunk.length;
    }
    const envelope = parseJsonObject(`${this.head.toString('latin1')}"${this.tail}`);
    if (envelope === undefined) {
      throw new BrokenLine('first line is not a JSON object');
    }
    if (own(envelope, 'type') !== 'ready') {
      throw new BrokenLine('first line is no ready line');
    }
    this.wipe();
    this.place = 'done';
    return lineEnd + 1;
  }
}
