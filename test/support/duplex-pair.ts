/* Two ends of one real unix socket connection. */
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface DuplexPair {
  /** The end under test; it may be half-open. */
  readonly near: Socket;
  readonly far: Socket;
}

export async function duplexPair(): Promise<DuplexPair> {
  const folder = await mkdtemp(join(tmpdir(), 'pair-'));
  const path = join(folder, 's');
  const server = createServer({ allowHalfOpen: true });
  server.listen(path);
  await once(server, 'listening');
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const far = connect({ path, allowHalfOpen: true });
  const near = await accepted;
  server.close();
  await rm(folder, { recursive: true });
  return { near, far };
}
