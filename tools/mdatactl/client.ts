/*
 * Asks the running agent over its admin socket, finds the zone that a person means, and says what to do when the agent
 * is not there.
 *
 * The types of the replies are the agent's own: both come out of one package.
 */
import { request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import type { DoctorReport } from '../../src/admin/doctor';
import type { DatasetsReport, KeyRow } from '../../src/admin/routes';
import type { Status, ZoneReport, ZoneRow } from '../../src/admin/status';
import { codeOf, describeError } from '../../src/lib/errors';
import { isJsonObject, ownString } from '../../src/metadata/vm-data';
import { nearestZones, wholeUuid, zoneMeant } from '../zone-name';

/** The agent answers from memory; one that takes longer has stopped. */
const ANSWER_MS = 10_000;
/** The doctor takes its time for thousands of zones, and so does a listing of their datasets. */
const LONG_ANSWER_MS = 120_000;

export interface Answers {
  readonly status: Status;
  readonly zones: readonly ZoneRow[];
  readonly zone: ZoneReport;
  readonly keys: readonly KeyRow[];
  readonly doctor: DoctorReport;
  readonly datasets: DatasetsReport;
  readonly metrics: unknown;
  readonly level: { readonly level: string; readonly previous?: string };
  readonly notify: {
    readonly zonename: string;
    readonly said: string;
    readonly is: string | null;
  };
}

/** What is printed for a person, with the lines that help further. */
export class ControlError extends Error {
  /** @param exit the exit status, where a command has one of its own for a failure */
  constructor(
    message: string,
    readonly help: readonly string[] = [],
    readonly exit: number | null = null,
  ) {
    super(message);
    this.name = 'ControlError';
  }
}

export interface Question {
  readonly method?: 'GET' | 'PUT' | 'POST';
  readonly path: string;
  readonly body?: unknown;
  /** The agent has much to check before it can answer. */
  readonly long?: true;
}

/** Asks one agent. Each question is a connection of its own. */
export class Client {
  constructor(private readonly socketPath: string) {}

  /** The reply to a question, as what `name` says it is. */
  async ask<N extends keyof Answers>(_name: N, question: Question): Promise<Answers[N]> {
    const reply: unknown = JSON.parse(await this.text(question));
    // The other end of the socket is this same package: what it sends has its own types.
    return reply as Answers[N];
  }

  async text(question: Question): Promise<string> {
    return this.bodyOf(await this.open(question), question);
  }

  /** The reply while it comes in. @throws ControlError: there is none, or it is a refusal */
  async open(question: Question): Promise<IncomingMessage> {
    if (question.long) {
      // Says in seconds that the agent is stopped, and not after the time that a long answer may take.
      const alive = { path: '/healthz' };
      await this.bodyOf(await this.send(alive, ANSWER_MS), alive);
    }
    const response = await this.send(question, question.long ? LONG_ANSWER_MS : ANSWER_MS);
    if (response.statusCode !== 200) {
      const refusal = refusalOf(await this.bodyOf(response, question));
      const [, unknown] = /^no such zone: (.+)$/.exec(refusal) ?? [];
      throw new ControlError(refusal, unknown === undefined ? [] : await this.zonesNear(unknown));
    }
    return response;
  }

  /** What to do about a name that means none of the agent's zones. */
  async zonesNear(word: string): Promise<string[]> {
    const near = nearestZones(word, await this.ask('zones', { path: '/zones' }));
    return [
      ...near.map((each) => `did you mean:      ${each}`),
      "the agent's zones: mdatactl zones    the node's: vmadm list",
    ];
  }

  private async bodyOf(response: IncomingMessage, { method, path }: Question): Promise<string> {
    try {
      return await text(response);
    } catch (err) {
      throw notThere(this.socketPath, `${method ?? 'GET'} ${path}`, err);
    }
  }

  /** The reply, whatever its status, once it begins. */
  private send(
    { method = 'GET', path, body }: Question,
    limitMs: number,
  ): Promise<IncomingMessage> {
    const { socketPath } = this;
    const sent = body === undefined ? '' : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath, path, method, agent: false }, (response) => {
        clearTimeout(timer);
        resolve(response);
      });
      const timer = setTimeout(() => {
        const message = `mdatad is there but did not answer "${method} ${path}" within ${limitMs / 1000} s`;
        reject(
          new ControlError(message, [
            'it is stopped or wedged: pgrep -lf mdatad, then pstack PID (prun PID wakes one that is stopped)',
            'to end that:    svcadm restart mdatad    its log: svcs -L mdatad',
          ]),
        );
        asked.destroy();
      }, limitMs);
      asked.on('error', (err) => {
        clearTimeout(timer);
        reject(notThere(socketPath, `${method} ${path}`, err));
      });
      asked.end(sent);
    });
  }
}

function refusalOf(body: string): string {
  try {
    const reply: unknown = JSON.parse(body);
    return (isJsonObject(reply) ? ownString(reply, 'error') : undefined) ?? body.trim();
  } catch {
    // Not ours, then; its own text is the best there is.
    return body.trim();
  }
}

function notThere(socketPath: string, tried: string, err: unknown): ControlError {
  const code = codeOf(err);
  const start = [
    'is it up?       svcs -xv mdatad          its log: svcs -L mdatad',
    'to start it:    svcadm enable mdatad     (by hand: mdatad --root DIR)',
    'another root?   --root DIR, or MDATAD_ROOT in the environment',
  ];
  switch (code) {
    case 'ENOENT':
      return new ControlError(`mdatad is not there: no socket at ${socketPath}`, start);
    case 'ECONNREFUSED':
      return new ControlError(
        `mdatad is not there: it left its socket at ${socketPath}, and nobody listens`,
        ['it was killed or it crashed: its log says why', ...start],
      );
    case 'EACCES':
    case 'EPERM':
      return new ControlError(`not permitted to open ${socketPath}`, [
        'only root may: become root, or use pfexec',
      ]);
    case 'ECONNRESET':
    case 'EPIPE':
      return new ControlError(`mdatad hung up on "${tried}"`, [
        'only root of the global zone is served; or it is just ending: svcs -xv mdatad',
      ]);
    default:
      return new ControlError(`${tried} at ${socketPath} failed: ${describeError(err)}`, start);
  }
}

/** A whole uuid is taken as it is: what became of a zone that is gone can be asked too. */
export async function findZone(client: Client, word: string): Promise<string> {
  const found = wholeUuid(word) ?? (await knownZone(client, word));
  if (found === undefined) {
    throw new ControlError(`no such zone: ${word}`, await client.zonesNear(word));
  }
  return found;
}

/** The same, but a word that means none of the agent's zones is the name of one that it does not know yet. */
export async function findZoneOrNew(client: Client, word: string): Promise<string> {
  return wholeUuid(word) ?? (await knownZone(client, word)) ?? word;
}

async function knownZone(client: Client, word: string): Promise<string | undefined> {
  const meant = zoneMeant(word, await client.ask('zones', { path: '/zones' }));
  switch (meant.kind) {
    case 'zone':
      return meant.zonename;
    case 'none':
      return undefined;
    case 'several':
      throw new ControlError(`${word} could be ${meant.count} zones`, meant.candidates);
  }
}
