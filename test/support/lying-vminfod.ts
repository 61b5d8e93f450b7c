/*
 * A vminfod that sends whatever a test wants: any JSON for a VM, any bytes on its stream. Started on a
 * socket of its own, to which the agent is pointed with `--vminfod`.
 */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { JsonObject } from '../../src/metadata/vm-data';

export class LyingVminfod {
  readonly path: string;
  /** What the next ready line and requests give, by zone name. */
  readonly vms = new Map<string, JsonObject>();
  /** Sent as the ready line in place of the true one. */
  readyLine: Buffer | null = null;
  private readonly streams = new Set<ServerResponse>();
  private server: Server | null = null;

  constructor(path: string) {
    this.path = path;
  }

  /** For the agent's command line. */
  get flags(): readonly string[] {
    return ['--vminfod', `unix:${this.path}`];
  }

  get listeners(): number {
    return this.streams.size;
  }

  async start(): Promise<void> {
    rmSync(this.path, { force: true });
    this.server = createServer((request, response) => this.answer(request.url ?? '', response));
    this.server.listen(this.path);
    await once(this.server, 'listening');
  }

  /** Ends all streams too. */
  async stop(): Promise<void> {
    const { server } = this;
    this.server = null;
    if (server !== null) {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    }
    rmSync(this.path, { force: true });
  }

  /** Tells of a VM as it is now. */
  publish(zonename: string, vm: JsonObject): void {
    const type = this.vms.has(zonename) ? 'modify' : 'create';
    this.vms.set(zonename, vm);
    this.send(Buffer.from(`${JSON.stringify({ type, zonename, vm, changes: [] })}\n`));
  }

  remove(zonename: string): void {
    this.vms.delete(zonename);
    this.send(Buffer.from(`${JSON.stringify({ type: 'delete', zonename })}\n`));
  }

  /** The same bytes on every stream. */
  send(bytes: Buffer): void {
    for (const stream of this.streams) {
      stream.write(bytes);
    }
  }

  private answer(url: string, response: ServerResponse): void {
    const path = new URL(url, 'http://vminfod').pathname;
    if (path === '/events') {
      this.streams.add(response);
      response.once('close', () => this.streams.delete(response));
      response.writeHead(200);
      const vms = JSON.stringify([...this.vms.values()]);
      response.write(
        this.readyLine ?? `${JSON.stringify({ type: 'ready', date: new Date(), vms })}\n`,
      );
      return;
    }
    const vm = this.vms.get(decodeURIComponent(path.replace('/vms/', '')));
    response.writeHead(vm === undefined ? 404 : 200);
    response.end(JSON.stringify(vm ?? {}));
  }
}
