/*
 * Guests that flood their serial ports, with a process of their own: writes the same bytes to all of these
 * sockets as fast as they are accepted, and reads nothing, until its parent lets go of it.
 *
 *   flood-child junk|newlines|gets SOCKET...
 */
import { connect } from 'node:net';
import { frame } from './frames';

const CHUNK_BYTES = 64 * 1024;

const FLOODS: Readonly<Record<string, Buffer>> = {
  junk: Buffer.from('junk without an end '),
  newlines: Buffer.from('\n'),
  gets: frame('00000001', 'GET', 'big'),
};

function main(kind: string, paths: readonly string[]): void {
  const unit = FLOODS[kind] ?? Buffer.from('\n');
  const chunk = Buffer.concat(
    Array.from({ length: Math.ceil(CHUNK_BYTES / unit.length) }, () => unit),
  );
  process.once('disconnect', () => process.exit(0));
  for (const path of paths) {
    const port = connect(path).pause();
    const pour = (): void => {
      while (port.write(chunk)) {
        // Until its buffer is full.
      }
    };
    port.on('connect', pour);
    port.on('drain', pour);
    port.on('error', () => undefined);
  }
  process.send?.('pouring');
}

main(process.argv[2] ?? '', process.argv.slice(3));
