/*
 * A process, or a thread, with a listening socket and a client, which ends at the point that it is given.
 *
 *   node sockets-child.js WHEN PATH
 *
 * WHEN: `stay` echoes and never ends; `listening`, `accepted`, `received`, `writing`, `closing` exit with
 * status 0 there; `throw` throws from the owner of a stream.
 */
import { connect } from 'node:net';
import { parentPort } from 'node:worker_threads';
import { listenUnix } from '../../src/platform/sockets';
import type { Stream } from '../../src/platform/stream';

const [when = '', path = ''] = process.argv.slice(2);

function reach(point: string): void {
  if (point === when) {
    process.exit(0);
  }
}

function hear(stream: Stream, chunk: Buffer): void {
  reach('received');
  if (when === 'throw') {
    throw new Error('our own fault');
  }
  stream.write(when === 'stay' ? Buffer.from(chunk) : Buffer.alloc(4 * 1024 * 1024));
  reach('writing');
  if (when === 'closing') {
    stream.destroy();
    queueMicrotask(() => reach('closing'));
  }
}

listenUnix(
  path,
  (stream) => {
    reach('accepted');
    stream.start({
      data: (chunk) => hear(stream, chunk),
      ended: () => stream.end(),
      drain: () => undefined,
      closed: () => undefined,
    });
  },
  (err) => {
    throw err;
  },
);
reach('listening');
parentPort?.postMessage('listening');
if (when !== 'stay') {
  connect(path)
    .on('error', () => undefined)
    .write('hello');
}
