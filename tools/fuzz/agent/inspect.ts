/* What must hold whatever steps were executed: between two of them, and after the last one. */
import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { Broken, type Bounds } from './bounds';
import { getByAdmin, getBySocket, Terminal } from './probe';
import type { Stage } from './stage';
import {
  HEALTHY,
  HEALTHY_GUEST,
  holdsCanary,
  isGuest,
  MOTD,
  SUFFERING,
  uuidOf,
  type Sufferer,
} from './zones';

/** At rest: what every process has, and for each zone its socket and what watches it. */
const MOST_DESCRIPTORS = 64 + 2 * (HEALTHY.length + SUFFERING.length + 1);
/** One try, of many, to have a zone answered that has suffered. */
const TRY_MS = 3000;
const POLL_MS = 100;
/** The exit of a process is seen shortly after its sockets close. */
const HEARSAY_MS = 500;

const zoneLines = z.array(z.object({ uuid: z.string(), zone_state: z.string() }));

/**
 * The agent lives, healthy zones are answered rightly and in time, and what was confirmed as stored is
 * in their files.
 * @returns how long the slowest answer over a socket took, ms
 * @throws Broken
 */
export async function checkPromises(stage: Stage, { answerMs }: Bounds): Promise<number> {
  const { node, agent } = stage;
  agent.assertWell();
  const since = performance.now();
  const others = Promise.all([
    getByAdmin(node.root, '/status', answerMs),
    stage.portDue ? stage.terminal.get('motd', answerMs) : null,
  ]);
  const sockets = await Promise.all(
    HEALTHY.map((zone) => getBySocket(node.socketOf(zone), 'motd', answerMs)),
  );
  const slowest = performance.now() - since;
  const [status, port] = await others;
  const portWrong = stage.portDue && port !== MOTD;
  if (port === MOTD) {
    stage.portAnswered();
  }
  const wrong = [
    ...(status === null ? ['the admin socket'] : []),
    ...(portWrong ? [`the port of healthy zone ${HEALTHY_GUEST}`] : []),
    ...sockets.flatMap((value, n) => (value === MOTD ? [] : [`healthy zone ${HEALTHY[n] ?? ''}`])),
  ];
  if (wrong.length > 0) {
    await delay(HEARSAY_MS);
    agent.assertWell();
    throw new Broken(`no right answer in ${answerMs} ms: ${wrong.join(', ')}`);
  }
  if (holdsCanary(status ?? '')) {
    throw new Broken('a metadata value is in /status');
  }
  HEALTHY.forEach((zone) => assertKept(stage, zone));
  return slowest;
}

/** Calms the node, and all comes right again in time. @throws Broken */
export async function settle(stage: Stage, bounds: Bounds): Promise<void> {
  await stage.calm();
  const end = performance.now() + bounds.rightMs;
  const served = new Set<Sufferer>();
  const wrote = new Set<number>();
  for (;;) {
    stage.agent.assertWell();
    const wrong = await whatIsWrong(stage, served, wrote);
    if (wrong === '') {
      break;
    }
    if (performance.now() > end) {
      throw new Broken(`${bounds.rightMs} ms after the last fault ${wrong}`);
    }
    await delay(POLL_MS);
  }
  await checkPromises(stage, bounds);
  for (const zone of stage.writers.keys()) {
    assertKept(stage, zone);
  }
}

/** @param served, wrote those who were found well before need not be asked again */
async function whatIsWrong(
  stage: Stage,
  served: Set<Sufferer>,
  wrote: Set<number>,
): Promise<string> {
  const { node } = stage;
  const listed = zoneLines.parse(await node.ask('ls'));
  const states = new Map(listed.map(({ uuid, zone_state }) => [uuid, zone_state]));
  for (const zone of SUFFERING.filter((one) => !served.has(one))) {
    const wrong = await wrongWith(stage, zone, states.get(uuidOf(zone)));
    if (wrong !== '') {
      return wrong;
    }
    served.add(zone);
  }
  for (const zone of HEALTHY.filter((one) => !wrote.has(one))) {
    if ((await stage.writers.get(zone)?.confirm(TRY_MS)) !== true) {
      return `healthy zone ${zone} cannot write`;
    }
    wrote.add(zone);
  }
  const descriptors = readdirSync(`/proc/${stage.agent.pid}/fd`).length;
  return descriptors > MOST_DESCRIPTORS ? `${descriptors} descriptors are open` : '';
}

/** @param state undefined: there is no such zone */
async function wrongWith(stage: Stage, zone: number, state: string | undefined): Promise<string> {
  const { node } = stage;
  const uuid = uuidOf(zone);
  const get = async (): Promise<boolean> => {
    if (!isGuest(zone)) {
      return (await getBySocket(node.socketOf(zone), 'sdc:uuid', TRY_MS)) === uuid;
    }
    const terminal = new Terminal(node.portOf(zone));
    const value = await terminal.get('sdc:uuid', TRY_MS);
    terminal.leave();
    return value === uuid;
  };
  switch (state) {
    case 'running':
      if (await get()) {
        return '';
      }
      if (stage.corrupted.has(zone) && isGuest(zone)) {
        // Where its port is, is learnt when it boots: from a corrupt object, wrongly.
        await node.try('reboot', { uuid, guest: false });
      }
      return `zone ${zone} runs and is not answered`;
    case 'installed':
      return isGuest(zone) || (await get()) ? '' : `zone ${zone} is halted and not answered`;
    case undefined:
      return isGuest(zone) || !(await get()) ? '' : `zone ${zone} is gone and still answered`;
    default:
      // A step of the node failed half way: what is there of the zone is nobody's promise.
      return '';
  }
}

function assertKept(stage: Stage, zone: number): void {
  const path = `${stage.node.configOf(zone)}/metadata.json`;
  const missing = stage.writers.get(zone)?.missing(path) ?? '';
  if (missing !== '') {
    throw new Broken(`zone ${zone}: ${missing}`);
  }
}
