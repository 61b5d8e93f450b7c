/*
 * Hostile guests with a process of their own: on each socket so many connections, each of which asks the same again and
 * again. One that is closed is opened again.
 *
 *   hostile-child CONNECTIONS MODE REQUESTS... <SOCKETS
 *
 *   mute     reads nothing of the replies
 *   reads    reads all, and asks when it has read a reply
 *   pours    sends the first request as fast as it is taken, without an end of its line
 *   pieces   sends the first request byte by byte
 *   leaves   says nothing, and leaves at once
 *
 * A request is hexadecimal. A connection asks them in turn, and those of a socket begin with different ones. Requests that
 * are too long for an argument stand before the sockets, one a line, with an empty line behind the last. Says `ready` when
 * each has asked once.
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
const [count = '', mode = '', ...args] = process.argv.slice(2);
const lines = readFileSync(0, 'utf8').trimEnd().split('\n');
const end = lines.indexOf('');
const requests = [...args, ...lines.slice(0, Math.max(0, end))];
main(
  Number(count),
  mode,
  requests.map((request) => Buffer.from(request, 'hex')),
  lines.slice(end + 1),
);
