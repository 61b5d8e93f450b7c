/* A test that cannot run here shows as pending, with the reason in its title. */

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
