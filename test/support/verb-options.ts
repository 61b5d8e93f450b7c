/*
 * What tests of the handler and of connections need for WATCH, GETALL, PUTIF, DELETEIF and HELLO: tokens of a key that
 * is always the same, and watches of data that changes when the test says so.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { helloText } from '../../src/metadata/handler';
import { Tokens } from '../../src/metadata/watch';
import { Watches } from '../../src/transport/watches';

/** Of all zeros: nobody's. */
export const TEST_TOKENS = new Tokens(Buffer.alloc(32), () => turn());

/** Members of the answer options. */
export const VERB_OPTIONS = {
  tokens: TEST_TOKENS,
  withRoom: <T>(_zonename: string, _bytes: number, work: () => Promise<T>): Promise<T> => work(),
  replyBytes: 4 * 1024 * 1024,
  hello: helloText('1.2.3', {
    lineBytes: 2 * 1024 * 1024,
    replyBytes: 4 * 1024 * 1024,
    metadataBytes: 4 * 1024 * 1024,
    keys: 1024,
  }),
};

/** Watches of data that never changes. */
export function unchangingWatches(): Watches {
  return new Watches(() => ({ text: '', settled: true }));
}
