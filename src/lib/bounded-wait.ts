/* Waits for what may never come: the file system below a zone's root, a hung disk, another subscriber of the node. */

/**
 * Waits for a promise, `ms` at most; what comes later goes on by itself. Does not keep the process alive. Rejects where
 * the promise does in that time.
 * @returns whether it was settled in time
 */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, ms, false).unref();
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
