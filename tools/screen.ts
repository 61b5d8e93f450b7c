/*
 * Colour for people: on a terminal, and only where NO_COLOR is not set (https://no-color.org).
 */
import { styleText } from 'node:util';

export type Colour = 'red' | 'yellow' | 'green' | 'dim' | 'bold';

export type Paint = (colour: Colour, text: string) => string;

export const plain: Paint = (_colour, text) => text;

/** Whether there is a terminal is decided below, for each stream: Node's own check knows standard output only. */
export const coloured: Paint = (colour, text) => styleText(colour, text, { validateStream: false });

/** How wide and how colourful the output may be. */
export interface Screen {
  readonly width: number;
  readonly paint: Paint;
  /** Whether a person looks at it now. */
  readonly terminal: boolean;
}

/** Width where the output is no terminal: it may be read on one later. */
const FILE_WIDTH = 100;
const LEAST_WIDTH = 60;

/** How wide and how colourful we may be. A file or a pipe gets no colours. */
export function screenOf(out: NodeJS.WriteStream, environment: NodeJS.ProcessEnv): Screen {
  const noColour = environment.NO_COLOR !== undefined && environment.NO_COLOR !== '';
  const columns = Number(environment.COLUMNS);
  const width = out.isTTY ? out.columns : columns > 0 ? columns : FILE_WIDTH;
  return {
    terminal: out.isTTY,
    width: Math.max(LEAST_WIDTH, width),
    paint: out.isTTY && !noColour && environment.TERM !== 'dumb' ? coloured : plain,
  };
}
