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
const ESCAPES = new Map<number, number>(
  Array.from('"\\/bfnrt', (char, at) => [char.charCodeAt(0), '"\\/\b\f\n\r\t'.charCodeAt(at)]),
);

/** The line is not what it should be. Its text names the fault, never content. */
export class BrokenLine extends Error {
  readonly code = 'EBADMSG';

  constructor(reason: string) {
    super(reason);
    this.name = 'BrokenLine';
  }
}

/** In the list of VMs: before `[`, between elements, in one, behind `]`. */
type InList = 'before' | 'between' | 'element' | 'behind';

/** Reads one line; another line takes another one. */
export class SnapshotParser {
  private place: 'head' | InList | 'tail' | 'done' = 'head';
  /** The line without its list. */
  private envelope = '';
  /** Bytes of an escape that the end of a chunk cut, its backslash included. */
  private escape = '';
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
    let at = this.place === 'head' ? this.readHead(chunk) : 0;
    if (this.place !== 'tail' && !this.done) {
      at = this.readList(chunk, at);
    }
    return this.place === 'tail' ? this.readTail(chunk, at) : at;
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
    const before = this.envelope.length;
    this.envelope += chunk.toString('latin1', 0, MAX_ENVELOPE_BYTES);
    const marker = /^\{[^\n]*?"vms"[ \t\r]*:[ \t\r]*"/.exec(this.envelope);
    if (marker !== null) {
      [this.envelope] = marker;
      this.place = 'before';
      return this.envelope.length - before;
    }
    if (!this.envelope.startsWith('{') || this.envelope.includes('\n')) {
      throw new BrokenLine('first line is no ready line');
    }
    if (this.envelope.length >= MAX_ENVELOPE_BYTES) {
      throw new BrokenLine('no VMs at the start of the first line');
    }
    return chunk.length;
  }

  /** The string that is the list, up to its end. */
  private readList(chunk: Buffer, from: number): number {
    for (let at = from; at < chunk.length; at++) {
      const byte = chunk[at] ?? 0;
      if (this.escape !== '') {
        this.readEscape(byte);
      } else if (byte === BACKSLASH) {
        this.escape = '\\';
      } else if (byte === QUOTE) {
        if (this.place !== 'behind') {
          throw new BrokenLine('list of VMs is cut');
        }
        this.envelope += '"';
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
    const plain = this.escape === '\\' ? ESCAPES.get(byte) : undefined;
    if (plain !== undefined) {
      this.escape = '';
      this.take(plain);
      return;
    }
    this.escape += String.fromCharCode(byte);
    if (!/^\\u[0-9a-fA-F]{0,4}$/.test(this.escape)) {
      throw new BrokenLine('bad escape in the list of VMs');
    }
    if (this.escape.length === 6) {
      const unit = parseInt(this.escape.slice(2), 16);
      // Beyond ASCII it can only stand in a string, where the escape itself means the same.
      for (const each of unit < 0x80 ? [unit] : Buffer.from(this.escape, 'latin1')) {
        this.take(each);
      }
      this.escape = '';
    }
  }

  /** One byte of the list. */
  private take(byte: number): void {
    if (this.place !== 'element') {
      this.takeBetween(byte);
      return;
    }
    this.keep(byte);
    if (this.inString) {
      this.inString = byte !== QUOTE || this.innerEscaped;
      this.innerEscaped = byte === BACKSLASH && !this.innerEscaped;
    } else if (byte === QUOTE) {
      this.inString = true;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      this.depth++;
    } else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --this.depth === 0) {
      this.place = 'between';
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
    if (this.place === 'before' && byte === OPEN_BRACKET) {
      this.place = 'between';
    } else if (this.place === 'between' && byte === OPEN_BRACE) {
      this.place = 'element';
      this.depth = 1;
      this.pieceLength = 0;
      this.keep(byte);
    } else if (this.place === 'between' && byte === CLOSE_BRACKET) {
      this.place = 'behind';
    } else if (this.place !== 'between' || byte !== COMMA) {
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
    const end = chunk.indexOf(LF, from);
    this.envelope += chunk.toString('latin1', from, end === -1 ? chunk.length : end);
    if (this.envelope.length > 2 * MAX_ENVELOPE_BYTES) {
      throw new BrokenLine('first line does not end');
    }
    if (end === -1) {
      return chunk.length;
    }
    const envelope = parseJsonObject(this.envelope);
    if (envelope === undefined) {
      throw new BrokenLine('first line is not a JSON object');
    }
    if (own(envelope, 'type') !== 'ready') {
      throw new BrokenLine('first line is no ready line');
    }
    this.wipe();
    this.place = 'done';
    return end + 1;
  }
}
