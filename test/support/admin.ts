/* The admin socket of an agent, asked over HTTP as any monitor would. */
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { keepSaid } from './said';

export interface Reply {
  readonly status: number;
  readonly text: string;
}

export function adminSocketOf(root: string): string {
  return join(root, 'var/run/mdatad/admin.sock');
}

/** The reply while it comes in. */
export async function openAdmin(
  root: string,
  path: string,
  method = 'GET',
  body = '',
): Promise<IncomingMessage> {
  const asked = request({ socketPath: adminSocketOf(root), path, method, agent: false });
  asked.end(body);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return response;
}

export async function askAdmin(
  root: string,
  path: string,
  method = 'GET',
  body = '',
): Promise<Reply> {
  const response = await openAdmin(root, path, method, body);
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  keepSaid('admin', `${method} ${path}\n${text}\n`);
  return { status: response.statusCode ?? 0, text };
}

/** The parsed reply to a question that succeeds. */
export async function askJson(root: string, path: string): Promise<unknown> {
  const { status, text } = await askAdmin(root, path);
  if (status !== 200) {
    throw new Error(`${path}: ${status} ${text}`);
  }
  return JSON.parse(text);
}
