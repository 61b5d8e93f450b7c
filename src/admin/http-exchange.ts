/*
 * One HTTP exchange with an operator: the request's body within bounds, and the replies there are.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** What anybody has to tell us fits a few lines. */
const BODY_BYTES = 64 * 1024;

/** A request that is refused: its status and words are the reply. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'Refused';
    this.status = status;
  }
}

/** Answers with JSON on one line, and ends the response. */
export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body, replaced)}\n`;
  sendText(response, status, text, 'application/json');
}

/** Answers with text, and ends the response. No cache may keep it. */
export function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  contentType = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
  });
  response.end(text);
}

/** Answers `{"error": message}`. @param status 400 or more */
export function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, { error: message });
}

/** Reads a JSON body. @throws Refused: too large, or no JSON */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  const body: AsyncIterable<Buffer> = request;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > BODY_BYTES) {
      throw new Refused(413, `a body of at most ${BODY_BYTES} bytes is taken`);
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new Refused(400, 'the body is no JSON');
  }
}

/** Records of the log may hold errors and big integers, which JSON does not know. */
function replaced(_name: string, value: unknown): unknown {
  if (value instanceof Error) {
    const code = 'code' in value ? value.code : undefined;
    return { name: value.name, message: value.message, code };
  }
  return typeof value === 'bigint' ? value.toString() : value;
}
