/* A real logger whose records a test can read. */
import { Writable } from 'node:stream';
import { createLogger, ZoneLog, type Logger } from '../../src/log';
import { parseJsonObject, type JsonObject } from '../../src/metadata/vm-data';

export interface LogRecords {
  readonly log: Logger;
  readonly zoneLog: (zonename: string) => ZoneLog;
  /** All records so far, or those with this message. */
  readonly records: (msg?: string) => readonly JsonObject[];
  /** Everything that was written, to look for what must not be there. */
  readonly text: () => string;
}

export function logRecords(): LogRecords {
  const lines: string[] = [];
  const out = new Writable({
    write(chunk: Buffer, _encoding, callback) {
      lines.push(chunk.toString('utf8'));
      callback();
    },
  });
  const log = createLogger('debug', out);
  return {
    log,
    zoneLog: (zonename) => new ZoneLog(log, zonename, 'joyent'),
    records: (msg) => {
      const all = lines.map((line) => parseJsonObject(line) ?? {});
      return msg === undefined ? all : all.filter((record) => record.msg === msg);
    },
    text: () => lines.join(''),
  };
}
