/*
 * Reads the first line of vminfod's event stream as its bytes come in, and cuts it into VMs.
 *
 *   {"type":"ready", ... ,"vms":"[{\"uuid\": ... },{ ... }]"}\n
 *   |------ head --------------||----- a string of JSON ---||tail
 *
 * The line is tens of megabytes on a full node: parsed in one piece it would delay every guest for most of a second. Each
 * VM is handed out once it is there, and only what is around the VMs is kept until the line's end. Pure.
 */
import { StringDecoder } from 'node:string_decoder';
import { own, ownString, parseJsonObject } from '../metadata/vm-data';

/** More than metadata at its limit and the longest VM object known, with room. */
const MAX_VM_CHARS = 64 * 1024 * 1024;
/** Members besides `vms` are a date and an id. */
const MAX_ENVELOPE_CHARS = 64 * 1024;
/** Three for each VM: zone ids end at 9,999, and more than 65,536 VMs are no node. */
const MAX_LIST_CHARS = 3 * 65536;

const HEAD = /^\{[^\n]*?"vms"[ \t\r]*:[ \t\r]*"/;
/** Of a string of JSON as much as is whole: up to its end, or to an escape that is cut or wrong. */
const WHOLE = /^(?:[^"\\]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/;
const CUT_ESCAPE = /^(?:\\(?:u[0-9a-fA-F]{0,3})?)?$/;
const EMPTIED_LIST = /^\[(?:\{\}(?:,\{\})*)?\]$/;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LF = 0x0a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** The line is not what it should be. Its text names the fault, never content. */
export class BrokenLine extends Error {
  readonly code = 'EBADMSG';

  constructor(reason: string) {
    super(reason);
    this.name = 'BrokenLine';
  }
}

/** Reads one line; another line takes another one. */
export class SnapshotParser {
  private readonly decoder = new StringDecoder('utf8');
  private place: 'head' | 'list' | 'tail' = 'head';
  /** The line without its list. */
  private envelope = '';
  /** The list without what its VMs hold. */
  private list = '';
  /** An escape that the end of the bytes cut. */
  private cut = '';
  /** What is there of a VM, and in how many brackets the next character of it is. */
  private vm = '';
  private depth = 0;
  private isInString = false;
  private isEscaped = false;

  /** @param onVm gets the JSON text of each VM, of which only the brackets were checked */
  constructor(private readonly onVm: (json: string) => void) {}

  /**
   * Takes the next bytes, up to the line's LF at most. Returns whether the line is whole. Throws BrokenLine.
   */
  push(bytes: Buffer): boolean {
    const text = this.decoder.write(bytes);
    if (this.place === 'list') {
      this.readList(text);
    } else {
      this.envelope += text;
      if (this.place === 'head') {
        this.findList();
      }
    }
    if (this.envelope.length > MAX_ENVELOPE_CHARS) {
      const isHead = this.place === 'head';
      throw new BrokenLine(
        isHead ? 'no VMs at the start of the first line' : 'first line does not end',
      );
    }
    if (bytes.at(-1) !== LF) {
      return false;
    }
    const line = parseJsonObject(this.envelope);
    if (line === undefined) {
      throw new BrokenLine('first line is not a JSON object');
    }
    if (own(line, 'type') !== 'ready' || this.place !== 'tail') {
      throw new BrokenLine('first line is no ready line');
    }
    if (this.depth > 0) {
      throw new BrokenLine('list of VMs is cut');
    }
    if (!EMPTIED_LIST.test(this.list)) {
      throw new BrokenLine('list of VMs is no list of objects');
    }
    return true;
  }

  private findList(): void {
    const [head] = HEAD.exec(this.envelope) ?? [];
    if (head !== undefined) {
      const text = this.envelope.slice(head.length);
      this.envelope = head;
      this.place = 'list';
      this.readList(text);
    } else if (!this.envelope.startsWith('{')) {
      throw new BrokenLine('first line is no ready line');
    }
  }

  /** Text of the string that is the list, and what follows it. */
  private readList(text: string): void {
    const escaped = this.cut + text;
    const [whole = ''] = WHOLE.exec(escaped) ?? [];
    const rest = escaped.slice(whole.length);
    const string = parseJsonObject(`{"text":"${whole}"}`);
    const plain = string && ownString(string, 'text');
    if (plain === undefined) {
      throw new BrokenLine('control character in the list of VMs');
    }
    this.readVms(plain);
    if (rest.startsWith('"')) {
      this.place = 'tail';
      this.envelope += rest;
    } else if (CUT_ESCAPE.test(rest)) {
      this.cut = rest;
    } else {
      throw new BrokenLine('bad escape in the list of VMs');
    }
  }

  private readVms(text: string): void {
    let from = 0;
    for (let at = 0; at < text.length; at++) {
      const char = text.charCodeAt(at);
      if (this.isInString) {
        this.isInString = char !== QUOTE || this.isEscaped;
        this.isEscaped = char === BACKSLASH && !this.isEscaped;
      } else if (char === OPEN_BRACE || (char === OPEN_BRACKET && this.depth > 0)) {
        if (this.depth++ === 0) {
          from = at;
        }
      } else if (this.depth === 0) {
        this.list += text.charAt(at).trim();
      } else if (char === QUOTE) {
        this.isInString = true;
      } else if ((char === CLOSE_BRACE || char === CLOSE_BRACKET) && --this.depth === 0) {
        this.onVm(this.vm + text.slice(from, at + 1));
        this.vm = '';
        this.list += '{}';
      }
    }
    if (this.depth > 0) {
      this.vm += text.slice(from);
    }
    if (this.vm.length > MAX_VM_CHARS) {
      throw new BrokenLine('a VM is too large');
    }
    if (this.list.length > MAX_LIST_CHARS) {
      throw new BrokenLine('too many VMs');
    }
  }
}
