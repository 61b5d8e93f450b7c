/*
 * The admin server: HTTP on a unix socket that only root can open, and, where it is configured, health and metrics on a
 * loopback port. The agent starts it once the first zones have their sockets, and stops it after them.
 *
 * No error of a request leaves this file, and none can exhaust the agent's memory: bodies and connections are bounded,
 * and a client that neither sends its request nor reads its reply is disconnected. Only followers of the log stay, as
 * many as tail.ts allows.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { codeOf, messageOf, systemError } from '../lib/errors';
import { fdOf } from '../transport/net-stream';
import { listenAt, removeSocketFile, type FileIdentity } from '../transport/socket-file';
import { HealthMonitor } from './health';
import type { AdminNode } from './node';
import { PUBLIC_ROUTES, Refused, route, ROUTES, sendError } from './routes';

const GLOBAL_ZONEID = 0;
/** A client has this long to send a whole request, and again to read the reply. */
const CLIENT_MS = 8000;
/** How often the server looks for those that have had it. */
const CHECK_MS = 2000;
const IDLE_MS = 5000;
/** Operators, a monitor, a few who follow the log. */
const MOST_CONNECTIONS = 64;
const LOOPBACK = '127.0.0.1';
/** A page of another site can have a browser connect to the loopback port, but under its own name. */
const LOOPBACK_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?$/i;

/** The admin server of one agent. Started once, stopped once. */
export class AdminServer {
  private readonly health: HealthMonitor;
  private readonly servers: Server[] = [];
  private identity: FileIdentity | null = null;

  constructor(private readonly node: AdminNode) {
    this.health = new HealthMonitor(node);
  }

  /** Rejects with a SystemError when the socket cannot be made; a loopback port in use is only logged. */
  async start(): Promise<void> {
    const server = this.makeServer(ROUTES);
    server.prependListener('connection', (socket: Socket) => this.admit(socket));
    const bound = await listenAt(this.node.paths.adminSocket, (path) =>
      listening(server.listen(path)).catch((err: unknown) => {
        throw systemError('bind', path, err);
      }),
    );
    this.identity = bound.identity;
    this.servers.push(server);
    this.health.start();
    const port = this.node.config().metrics_port;
    if (port !== undefined) {
      await this.openLoopback(port);
    }
  }

  /** Ends open requests and removes the socket. Idempotent; never rejects. */
  async stop(): Promise<void> {
    this.health.stop();
    this.node.tail.endAll();
    const { identity } = this;
    this.identity = null;
    await Promise.all(this.servers.splice(0).map(close));
    if (identity !== null) {
      try {
        removeSocketFile(identity, this.node.paths.adminSocket);
      } catch (err) {
        this.node.log.warn({ err }, 'could not remove the admin socket');
      }
    }
  }

  private makeServer(routes: typeof ROUTES): Server {
    const server = createServer({
      headersTimeout: CLIENT_MS,
      requestTimeout: CLIENT_MS,
      connectionsCheckingInterval: CHECK_MS,
      keepAliveTimeout: IDLE_MS,
    });
    server.maxConnections = MOST_CONNECTIONS;
    server.on('request', (request, response) => void this.answer(routes, request, response));
    server.on('clientError', (_err, socket) => socket.destroy());
    server.on('error', (err) => {
      if (server.listening) {
        this.node.log.warn({ err }, 'could not accept an admin connection');
      }
    });
    return server;
  }

  private async answer(
    routes: typeof ROUTES,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    // A client that goes away in the middle of its reply needs no answer.
    response.on('error', () => undefined);
    try {
      if (routes === PUBLIC_ROUTES && !LOOPBACK_HOST.test(request.headers.host ?? '')) {
        throw new Refused(403, 'the Host header has to name this machine: localhost or 127.0.0.1');
      }
      const { node, health } = this;
      await route(routes, { node, health, request, response });
    } catch (err) {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      if (err instanceof Refused) {
        sendError(response, err.status, err.message);
      } else {
        this.node.log.error({ err, path: request.url }, 'admin request failed');
        sendError(response, 500, messageOf(err));
      }
    } finally {
      // A body that nobody read must not keep the connection.
      request.resume();
      if (response.writableEnded && !response.writableFinished) {
        const unread = setTimeout(() => request.socket.destroy(), CLIENT_MS).unref();
        response.once('close', () => clearTimeout(unread));
      }
    }
  }

  /** Root's, or our own user's off a compute node; nobody's from inside a zone. */
  private admit(socket: Socket): void {
    try {
      const fd = fdOf(socket);
      const peer = fd === undefined ? null : this.node.platform.peer(fd);
      const isKnown = peer?.uid === 0 || peer?.uid === process.geteuid?.();
      if (isKnown && peer?.zoneid === GLOBAL_ZONEID) {
        return;
      }
      this.node.log.warn({ peer }, 'refused at the admin socket');
    } catch (err) {
      // One that is gone again has no credential.
      this.node.log.debug({ err }, 'refused at the admin socket');
    }
    socket.destroy();
  }

  private async openLoopback(port: number): Promise<void> {
    const server = this.makeServer(PUBLIC_ROUTES);
    try {
      this.servers.push(await listening(server.listen(port, LOOPBACK)));
      this.node.log.info({ port }, 'metrics are on the loopback port');
    } catch (err) {
      const failed = systemError('listen', `${LOOPBACK}:${port}`, err);
      this.node.log.error({ err: failed, code: codeOf(failed) }, 'no metrics on the loopback port');
    }
  }
}

/** Resolves when a server that was told to listen does. */
async function listening(server: Server): Promise<Server> {
  await once(server, 'listening');
  return server;
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
