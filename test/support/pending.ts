/* A test or a suite that cannot run here shows as pending, with the reason in its title. */

export function pending(context: Mocha.Context, reason: string): void {
  if (context.test !== undefined) {
    context.test.title += ` (${reason})`;
  }
  context.skip();
}

/** Mounts and chroots are root's. */
export function needsRoot(context: Mocha.Context): void {
  if (process.getuid?.() !== 0) {
    pending(context, 'needs root');
  }
}

/**
 * A suite that needs something: where that is missing none of its hooks runs (mocha runs the `after` of a
 * suite that was skipped in its `before`).
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

/** For `describeWhere`. */
export function whyNotRoot(): string | null {
  return process.getuid?.() === 0 ? null : 'needs root';
}
