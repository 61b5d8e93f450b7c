/* A suite that cannot run on this machine shows as pending, and says why. */

/** For a `before` hook, with its `this`. Ends the hook; the suite's tests carry the reason in their titles. */
export function skipSuite(hook: Mocha.Context, reason: string): never {
  hook.test?.parent?.eachTest((test) => {
    test.title += ` (not here: ${reason})`;
  });
  return hook.skip();
}
