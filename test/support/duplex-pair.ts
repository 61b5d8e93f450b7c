/* Two ends of one real unix socket connection: both node:net's, or the near one as the agent accepts it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listenUnix } from '../../src/platform/sockets';
import type { Stream } from '../../src/platform/stream';

export interface DuplexPair {
  /** The end under test; it may be half-open. */
  readonly near: Socket;
  readonly far: Socket;
}

export async function duplexPair(): Promise<DuplexPair> {
  const directory = await mkdtemp(join(tmpdir(), 'pair-'));
  const path = join(directory, 's');
  const server = createServer({ allowHalfOpen: true });
  server.listen(path);
  await once(server, 'listening');
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const far = connect({ path, allowHalfOpen: true });
  const near = await accepted;
  server.close();
  await rm(directory, { recursive: true });
  return { near, far };
}

/** The near end as a zone socket gets it. */
export async function acceptedPair(): Promise<{ readonly near: Stream; readonly far: Socket }> {
  const directory = await mkdtemp(join(tmpdir(), 'pair-'));
  const path = join(directory, 's');
  let far: Socket | undefined;
  const near = await new Promise<Stream>((resolve, reject) => {
    const listener = listenUnix(
      path,
      (stream) => {
        listener.close();
        resolve(stream);
      },
      reject,
    );
    far = connect({ path, allowHalfOpen: true });
  });
  await rm(directory, { recursive: true });
  if (far === undefined) {
    throw new Error('nobody connected');
  }
  return { near, far };
}
