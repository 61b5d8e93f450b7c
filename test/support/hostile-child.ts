/*
 * Hostile guests with a process of their own: on each socket so many connections that ask the same again
 * and again and read nothing of the replies, or read all. One that is closed is opened again.
 *
 *   hostile-child CONNECTIONS mute|reads REQUESTS... <SOCKETS
 *
 * A request is hexadecimal. A connection asks them in turn, the next one when it has read a reply, and
 * those of a socket begin with different ones. Says `ready` when each has asked once.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const AGAIN_MS = 50;

function main(count: number, mute: boolean, requests: readonly Buffer[]): void {
  const paths = readFileSync(0, 'utf8').trimEnd().split('\n');
  let left = paths.length * count;
  const open = (path: string, n: number): void => {
    const socket = connect(path);
    let next = n;
    const ask = (): void => {
      socket.write(requests[next++ % requests.length] ?? '');
    };
    socket.on('error', () => undefined);
    socket.once('close', () => setTimeout(() => open(path, n), AGAIN_MS));
    socket.once('connect', () => {
      ask();
      if (--left === 0) {
        process.send?.('ready');
      }
    });
    if (mute) {
      socket.pause();
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
const [count = '', mode = '', ...requests] = process.argv.slice(2);
main(
  Number(count),
  mode === 'mute',
  requests.map((request) => Buffer.from(request, 'hex')),
);
