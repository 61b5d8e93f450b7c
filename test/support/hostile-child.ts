/*
 * Hostile guests with a process of their own: on each socket so many connections, each of which asks the same again and
 * again. One that is closed is opened again.
 *
 *   hostile-child CONNECTIONS MODE <REQUESTS-AND-SOCKETS
 *
 *   mute     reads nothing of the replies
 *   reads    reads all, and asks when it has read a reply
 *   pours    sends the first request as fast as it is taken, without an end of its line
 *   pieces   sends the first request byte by byte
 *   leaves   says nothing, and leaves at once
 *
 * The input has the requests, in hexadecimal and one a line, an empty line, and the sockets. A connection asks the requests
 * in turn, and those of a socket begin with different ones. Says `ready` when each has asked once. hostile-guests.ts forks it.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const AGAIN_MS = 50;
const LEAVES_MS = 5;

function main(count: number, mode: string, requests: readonly Buffer[], paths: string[]): void {
  const first = requests[0] ?? Buffer.alloc(0);
  let left = paths.length * count;
  const open = (path: string, n: number): void => {
    const socket = connect(path);
    let next = n;
    const ask = (): void => {
      switch (mode) {
        case 'leaves':
          setTimeout(() => socket.destroy(), LEAVES_MS);
          break;
        case 'pours':
          while (!socket.destroyed && socket.write(first)) {
            // Until its buffer is full.
          }
          break;
        case 'pieces':
          if (!socket.destroyed) {
            socket.write(first.subarray(next % first.length, (next++ % first.length) + 1));
            setTimeout(ask, 1);
          }
          break;
        default:
          socket.write(requests[next++ % requests.length] ?? '');
      }
    };
    socket.on('error', () => undefined);
    const again = mode === 'leaves' ? 0 : AGAIN_MS;
    socket.once('close', () => setTimeout(() => open(path, n), again));
    socket.once('connect', () => {
      ask();
      if (--left === 0) {
        process.send?.('ready');
      }
    });
    if (mode === 'mute') {
      socket.pause();
    } else if (mode !== 'reads') {
      socket.on('drain', ask).resume();
    } else {
      socket.on('data', (chunk: Buffer) => {
        if (chunk.at(-1) === 0x0a) {
          ask();
        }
      });
    }
  };
  for (const path of paths) {
    for (let n = 0; n < count; n++) {
      open(path, n);
    }
  }
}

process.once('disconnect', () => process.exit(0));
const [count = '', mode = ''] = process.argv.slice(2);
const lines = readFileSync(0, 'utf8').trimEnd().split('\n');
const end = lines.indexOf('');
main(
  Number(count),
  mode,
  lines.slice(0, end).map((request) => Buffer.from(request, 'hex')),
  lines.slice(end + 1),
);
