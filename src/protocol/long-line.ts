/*
 * Parses a long line in steps, each of a fraction of a millisecond, to the same request that parseLine makes of it.
 *
 * A PUT of a megabyte has its CRC computed and its base64 decoded twice, which takes milliseconds. A connection takes one
 * step after the other when the scheduler runs its zone, so that others are served between them. Nothing is taken in
 * memory besides the line but the value: the payload is decoded in its place. For zone sockets; a port, which brings
 * one line at a time at a bounded rate, has what its peers may lose of a line judged in the same call.
 */
import { bytesOfBase64, checkInSteps, decodeInSteps, findFrame, readBody } from './frame';
import { parseLine, requestOf, valueOf, type Request } from './request';

/** What a step weighs. */
export const STEP_BYTES = 64 * 1024;

/** A line that is parsed in steps. */
export interface LongLine {
  readonly bytes: number;
  /** When its last bytes were read. */
  readonly at: number;
  readonly steps: Generator<undefined, Request>;
}

/** @param line without its LF; nobody else may use its memory, which is written to */
export function* parseInSteps(line: Buffer): Generator<undefined, Request> {
  const found = findFrame(line);
  const frame = found.kind === 'none' ? found : readBody(found.body, yield* checkInSteps(found));
  if (frame.kind === 'none') {
    // A V1 line, or one that is met with silence: judged in one go.
    return parseLine(line, 'socket');
  }
  const { code, payload: text } = frame;
  const payload = yield* decodeInSteps(text, text);
  const isPut = code === 'PUT' || code === 'PUTIF';
  const valueText = isPut && payload !== null ? valueOf(code, payload) : null;
  const value =
    valueText === null
      ? null
      : yield* decodeInSteps(valueText, Buffer.allocUnsafeSlow(bytesOfBase64(valueText.length)));
  return requestOf(frame, { payload, value });
}
