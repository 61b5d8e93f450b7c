/* The last line of a terminal, which says what a long run is doing. Nothing is written to a file or a pipe. */

const CLEAR_LINE = '\r\u001b[K';
const started = performance.now();

/** Replaces the line. */
export function showProgress(text: string): void {
  if (process.stdout.isTTY) {
    process.stdout.write(`${CLEAR_LINE}${text}, ${elapsed()}`);
  }
}

/** Takes the line away, for output that stays. */
export function clearProgress(): void {
  if (process.stdout.isTTY) {
    process.stdout.write(CLEAR_LINE);
  }
}

/** Since the program began: `75 s`. */
export function elapsed(): string {
  return `${Math.round((performance.now() - started) / 1000)} s`;
}
