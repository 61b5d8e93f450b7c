/*
 * The admin server: HTTP on a unix socket that only root can open, and, where it is configured, health
 * and metrics on a loopback port.
 *
 * The agent starts it once the first zones have their sockets, and stops it after them. The routes are in routes.ts.
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
import type { Doctor } from './doctor';
import { HealthMonitor } from './health';
import type { Metrics } from './metrics-endpoint';
import type { AdminNode } from './node';
import { PUBLIC_ROUTES, Refused, route, ROUTES, sendError, type Parts } from './routes';
import { VminfodProbe } from './vminfod-health';
import { memoryCeiling, Watchdog, type SelfHealth } from './watchdog';

const GLOBAL_ZONEID = 0;
/** A client has this long to send a whole request, and again to read the reply. */
const CLIENT_MS = 8000;
const IDLE_MS = 5000;
/** Operators, a monitor, a few who follow the log. */
const MOST_CONNECTIONS = 64;
const LOOPBACK = '127.0.0.1';
/** A page of another site can have a browser connect to the loopback port, but under its own name. */
const LOOPBACK_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?$/i;

/** The admin server of one agent. Started once, stopped once. */
export class AdminServer {
  private readonly watchdog: Watchdog;
  private readonly health: HealthMonitor;
  private readonly parts: Parts;
  private readonly timeouts = new ClientTimeouts();
  private server: Server | null = null;
  private loopback: Server | null = null;
  private identity: FileIdentity | null = null;

  constructor(private readonly node: AdminNode) {
    const ceiling = (): number => memoryCeiling(node.registry()?.size ?? 0, node.config().limits);
    this.watchdog = new Watchdog({ ceiling, log: node.log, lostRecords: () => node.lostRecords() });
    const self = (): SelfHealth => this.watchdog.state();
    const probe = new VminfodProbe(node.vminfodUrl);
    const health = new HealthMonitor({ node, probe, self });
    this.health = health;
    let madeMetrics: Promise<Metrics> | null = null;
    // Loaded by the first who asks: prom-client takes 4 MiB and 25 ms, the doctor 18, which no start has to spare.
    const metrics = (): Promise<Metrics> =>
      (madeMetrics ??= import('./metrics-endpoint.js').then(({ makeMetrics }) =>
        makeMetrics(node, self, () => health.snapshot()),
      ));
    let madeDoctor: Promise<Doctor> | null = null;
    const doctor = (): Promise<Doctor> =>
      (madeDoctor ??= import('./doctor.js').then(
        (module) => new module.Doctor({ node, health, self }),
      ));
    this.parts = { node, doctor, metrics, health, self };
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
    this.server = server;
    this.watchdog.start();
    this.health.start();
    const port = this.node.config().metrics_port;
    if (port !== undefined) {
      await this.openLoopback(port);
    }
  }

  /** Ends open requests and removes the socket. Idempotent; never rejects. */
  async stop(): Promise<void> {
    this.watchdog.stop();
    this.health.stop();
    this.node.tail.endAll();
    const { server, loopback, identity } = this;
    [this.server, this.loopback, this.identity] = [null, null, null];
    await Promise.all([close(server), close(loopback)]);
    if (identity !== null) {
      try {
        removeSocketFile(identity, this.node.paths.adminSocket);
      } catch (err) {
        this.node.log.warn({ err }, 'could not remove the admin socket');
      }
    }
  }

  private makeServer(routes: typeof ROUTES): Server {
    // The server's own time limits are checked every 30 s only, and know nothing of readers.
    const server = createServer({ headersTimeout: 0, requestTimeout: 0 });
    server.keepAliveTimeout = IDLE_MS;
    server.maxConnections = MOST_CONNECTIONS;
    server.on('connection', (socket: Socket) => this.timeouts.open(socket));
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
    this.timeouts.follow(request, response);
    try {
      if (routes === PUBLIC_ROUTES && !LOOPBACK_HOST.test(request.headers.host ?? '')) {
        throw new Refused(403, 'the Host header has to name this machine: localhost or 127.0.0.1');
      }
      await route(routes, this.parts, request, response);
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
      this.timeouts.replied(request, response);
    }
  }

  /** Root's, or our own user's off a compute node; nobody's from inside a zone. */
  private admit(socket: Socket): void {
    try {
      const fd = fdOf(socket);
      const peer = fd === undefined ? null : this.node.platform.peer(fd);
      const known = peer !== null && (peer.uid === 0 || peer.uid === process.geteuid?.());
      if (known && peer.zoneid === GLOBAL_ZONEID) {
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
      this.loopback = await listening(server.listen(port, LOOPBACK));
      this.node.log.info({ port }, 'metrics are on the loopback port');
    } catch (err) {
      const failed = systemError('listen', `${LOOPBACK}:${port}`, err);
      this.node.log.error({ err: failed, code: codeOf(failed) }, 'no metrics on the loopback port');
    }
  }
}

/** Disconnects clients that take longer than CLIENT_MS for a step of their own. */
class ClientTimeouts {
  /** Of each open connection; null while the step is ours. */
  private readonly timers = new Map<Socket, NodeJS.Timeout | null>();

  open(socket: Socket): void {
    this.start(socket);
    socket.once('close', () => {
      this.stop(socket);
      this.timers.delete(socket);
    });
  }

  /** The client's step: it sends a request, or reads a reply. */
  private start(socket: Socket): void {
    this.stop(socket);
    if (!socket.destroyed) {
      this.timers.set(socket, setTimeout(() => socket.destroy(), CLIENT_MS).unref());
    }
  }

  private stop(socket: Socket): void {
    clearTimeout(this.timers.get(socket) ?? undefined);
    this.timers.set(socket, null);
  }

  /** A request's head is here: its body may still come. Once it is answered the next one may. */
  follow(request: IncomingMessage, response: ServerResponse): void {
    const { socket, headers } = request;
    const hasBody =
      headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
    if (!hasBody) {
      this.stop(socket);
    }
    request.once('end', () => {
      if (!response.writableEnded) {
        this.stop(socket);
      }
    });
    response.once('finish', () => this.start(socket));
  }

  /** The reply is written as far as it goes, which for a follower of the log it is not. */
  replied(request: IncomingMessage, response: ServerResponse): void {
    if (response.writableEnded && !response.writableFinished) {
      this.start(request.socket);
    }
  }
}

/** Resolves when a server that was told to listen does. */
async function listening(server: Server): Promise<Server> {
  await once(server, 'listening');
  return server;
}

async function close(server: Server | null): Promise<void> {
  if (server !== null) {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }
}
