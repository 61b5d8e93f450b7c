/* A test or a suite that cannot run here shows as pending, with the reason in its title. */

/**
 * Ends a test, or a `before` hook with all the tests of its suite (mocha runs the suite's `after` all
 * the same).
 * @param context their `this`
 */
export function pending(context: Mocha.Context, reason: string): never {
  const markPending = (test: Mocha.Runnable): void => {
    test.title += ` (${reason})`;
  };
  const { test } = context;
  if (test !== undefined && 'type' in test && test.type === 'hook') {
    test.parent?.eachTest(markPending);
  } else if (test !== undefined) {
    markPending(test);
  }
  return context.skip();
}

/** @param missing what a test, or a suite from its `before`, needs and is missing here; null for nothing */
export function needs(context: Mocha.Context, missing: string | null): void {
  if (missing !== null) {
    pending(context, missing);
  }
}

/** Mounts and chroots are root's. */
export function needsRoot(context: Mocha.Context): void {
  needs(context, whyNotRoot());
}

/** For `needs` and `describeWhere`. */
export function whyNotRoot(): string | null {
  return process.getuid?.() === 0 ? null : 'needs root';
}

/**
 * A suite that needs something: where that is missing none of its hooks runs.
 * @param missing what is missing here, null for nothing
 */
export function describeWhere(
  missing: string | null,
  title: string,
  suite: (this: Mocha.Suite) => void,
): void {
  if (missing === null) {
    describe(title, suite);
  } else {
    describe.skip(`${title} (${missing})`, suite);
  }
}
