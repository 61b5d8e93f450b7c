/*
 * The level of the log while the agent runs.
 *
 * The logger has two streams: the log itself, and the live records (tail), which takes all levels. A
 * logger's own level is the least of its streams', and children that were made keep a copy of it: so it
 * is the first stream's level that is moved, and children of any age follow.
 */
import bunyan from 'bunyan';
import { LOG_LEVELS } from '../config';
import type { Level, Logger } from '../log';
import { Tail } from './tail';

/** Which of the logger's streams is the log. */
const LOG_STREAM = 0;

/** Adds the live records to a new logger, before it has any child. */
export function addTail(log: Logger): Tail {
  const tail = new Tail(() => log.levels(LOG_STREAM));
  log.addStream({ type: 'raw', level: 'trace', stream: tail });
  return tail;
}

/** The least level that goes to the log. */
export function levelOf(log: Logger): Level {
  const least = log.levels(LOG_STREAM);
  return LOG_LEVELS.find((name) => bunyan.resolveLevel(name) >= least) ?? 'error';
}

/** Takes effect with the next record. The live records have a level of their own. */
export function setLevel(log: Logger, level: Level): void {
  log.levels(LOG_STREAM, level);
}
