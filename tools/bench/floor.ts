/*
 * The floor: what node:net alone costs. A server on many unix sockets that answers each line with the
 * same line and does nothing else; a NEGOTIATE is answered as the protocol says.
 *
 *   node floor.js <INPUT      its answer, then a socket's path a line; says "listening" when all do
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

const LF = 0x0a;
const N = 0x4e;

async function main(): Promise<void> {
  const [answer = '', ...paths] = readFileSync(0, 'latin1').trimEnd().split('\n');
  const reply = Buffer.from(`${answer}\n`, 'latin1');
  const negotiated = Buffer.from('V2_OK\n', 'latin1');
  for (const path of paths) {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk: Buffer) => {
        for (let at = 0, end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, at)) {
          socket.write(chunk[at] === N ? negotiated : reply);
          at = end + 1;
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  }
  process.stdout.write('listening\n');
}

process.once('SIGTERM', () => process.exit(0));
void main();
