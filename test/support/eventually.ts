/* Waits for a condition that has no event of its own. */

/**
 * Resolves as soon as `condition` holds; rejects with `what` when it does not within `ms`.
 * @param ms bound, milliseconds
 */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  what = 'the condition',
  ms = 10_000,
): Promise<void> {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) {
      throw new Error(`${what} did not come true within ${ms} ms`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
