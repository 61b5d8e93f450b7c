/*
 * Long work of many, one piece in each turn of the event loop: whoever has more to do waits for his next turn, and
 * what comes in meanwhile is served between two of them, however many have long work at once.
 */

/** One serves all that shares its turns. */
export class Turns {
  private readonly waiting: (() => void)[] = [];
  private scheduled = false;

  /** Resolves in a turn of the event loop of its own, first come, first served. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.schedule();
    });
  }

  private schedule(): void {
    if (!this.scheduled) {
      this.scheduled = true;
      setImmediate(() => {
        this.scheduled = false;
        this.waiting.shift()?.();
        if (this.waiting.length > 0) {
          this.schedule();
        }
      });
    }
  }
}
