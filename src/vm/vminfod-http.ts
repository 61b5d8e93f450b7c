/*
 * vminfod's HTTP interface: where it is, and one GET.
 *
 * A node has it at `http://127.0.0.1:9090`, a simulated one on a unix socket. No connection is kept:
 * the event stream lives on one of its own, and look-ups are rare.
 */
import { request, type IncomingMessage, type RequestOptions } from 'node:http';
import { hostname } from 'node:os';
import { SystemError, systemError } from '../lib/errors';

/** What vminfod lists in its status; the platform's convention for the name. */
const USER_AGENT = `mdatad - ${hostname()}/${process.pid} (mdatad)`;
/** vminfod answers from memory; while it loads VMs at its start it can take some seconds. */
const HEADERS_TIMEOUT_MS = 10_000;
/** A VM object with metadata at its limit, with room. */
const BODY_BYTES = 64 * 1024 * 1024;

/**
 * Asks for `path`. Resolves with a 200 response whose body is still to be read, rejects with a SystemError:
 * an errno, `ETIMEDOUT`, or `HTTP_n`. Aborting `signal` ends the request at any time, its body too.
 *
 * @param url `http://HOST:PORT` or `unix:/PATH`
 */
export function get(url: string, path: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const call = `GET ${path}`;
    const req = request({
      ...whereIs(url),
      path,
      signal,
      agent: false,
      headers: { 'User-Agent': USER_AGENT, Accept: 'application/json' },
    });
    const timer = setTimeout(() => {
      req.destroy(new SystemError(call, url, 'ETIMEDOUT', 'no answer'));
    }, HEADERS_TIMEOUT_MS);
    // Stays for the life of the request: a late error belongs to the response, whose reader gets it too.
    req.on('error', (err) => {
      clearTimeout(timer);
      reject(systemError(call, url, err));
    });
    req.once('response', (response) => {
      clearTimeout(timer);
      if (response.statusCode === 200) {
        resolve(response);
        return;
      }
      // Whoever reads a body attaches its own; this one is thrown away.
      response.on('error', () => undefined);
      req.destroy();
      reject(new SystemError(call, url, `HTTP_${response.statusCode ?? 0}`));
    });
    req.end();
  });
}

/** A whole answer, as text. Rejects with a SystemError. */
export async function getText(url: string, path: string, signal: AbortSignal): Promise<string> {
  const response = await get(url, path, signal);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of bytesOf(response)) {
      length += chunk.length;
      if (length > BODY_BYTES) {
        throw new SystemError(`GET ${path}`, url, 'EMSGSIZE');
      }
      chunks.push(chunk);
    }
  } catch (err) {
    throw systemError(`GET ${path}`, url, err);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The body of a response, as what it is. Ends the response when the loop over it ends. */
export function bytesOf(response: IncomingMessage): AsyncIterable<Buffer> {
  return response;
}

function whereIs(url: string): RequestOptions {
  if (url.startsWith('unix:')) {
    return { socketPath: url.slice('unix:'.length) };
  }
  const { hostname: host, port } = new URL(url);
  return { host, port: port === '' ? 80 : Number(port) };
}
