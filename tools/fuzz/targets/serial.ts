/*
 * Target `serial`: noise before a frame on a serial line does not hide it, and where there is no noise a
 * serial line means what a socket's does. Input: the noise's length, and a line whose end is the frame.
 */
import { parseLine } from '../../../src/protocol/request';
import { magnitude, nameNumber } from '../features';
import { frameIn } from '../model/wire';
import { meaningOf, meaningOfFrame, wordsOf } from '../model/request';
import { same, Wrong } from '../target';
import type { Target } from '../target';
import { randomFrame, randomLine, randomBytes, repairFrames, WORDS } from './protocol-words';

/** The frame's own start, and one that its code may look like, are always among those tried. */
const STARTS_TRIED = 4;

export const serial: Target = {
  name: 'serial',
  words: WORDS,

  generate(random, draft) {
    const noise = random.oneIn(3) ? randomLine(random) : randomBytes(random, 40);
    const lead = '\0'.repeat(random.mostlySmall(6));
    draft.latin1(lead + noise).latin1(random.oneIn(8) ? randomLine(random) : randomFrame(random));
  },

  repair(random, draft) {
    if (!random.oneIn(3)) {
      repairFrames(draft);
    }
  },

  run(input, features) {
    const line = input.toString('latin1');
    if (line.includes('\n')) {
      return;
    }
    const words = wordsOf(parseLine(input, 'serial'));
    const clean = line.replace(/^\0+/, '');
    const starts = startsIn(clean);
    const found = frameAt(clean, starts);
    const asSocket = meaningOf(clean);
    const isFrame = frameIn(clean) !== null;
    if (isFrame || starts.length === 0 || (starts.length === 1 && starts[0] === 0)) {
      same('a serial line without noise', words, asSocket);
    } else if (found !== null) {
      same('a frame behind noise', words, meaningOfFrame(clean.slice(found)));
    } else if (words !== asSocket && words !== 'broken') {
      throw new Wrong('noise is answered as such, or not at all', { words, asSocket });
    }
    const kind = nameNumber(words.split(' ', 1)[0] ?? '');
    features.reach(30, kind, Math.min(starts.length, 6), line.length - clean.length > 0 ? 1 : 0);
    features.reach(31, kind, found === null ? 0 : magnitude(found), magnitude(line.length));
  },
};

function startsIn(line: string): number[] {
  const starts: number[] = [];
  for (let at = line.indexOf('V2 '); at >= 0; at = line.indexOf('V2 ', at + 1)) {
    starts.push(at);
  }
  return starts;
}

/** Where the last frame that fills the rest of the line starts. */
function frameAt(line: string, starts: readonly number[]): number | null {
  for (const at of starts.slice(-STARTS_TRIED).reverse()) {
    if (frameIn(line.slice(at)) !== null) {
      return at;
    }
  }
  return null;
}
