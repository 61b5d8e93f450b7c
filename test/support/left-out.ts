/* Tests that a run left out. What may be left out is named here, with the reason; all else is a failure. */

/** Ends of titles. What they need is not in the hands of who installs packages by .ci/run. */
const MAY_BE_LEFT_OUT: readonly RegExp[] = [
  // Debian has no package of the shell that illumos has; where any ksh is, it is tested.
  /\(ksh\)$/,
  // The headers of the running Node: where it came without them there are none.
  /^the native code for illumos .*needs the headers of Node/,
];

/** Titles of the pending tests below a suite, those that may be pending left out. */
export function leftOut(suite: Mocha.Suite): string[] {
  const titles: string[] = [];
  suite.eachTest((test: Mocha.Test) => {
    const title = test.fullTitle();
    if (test.isPending() && !MAY_BE_LEFT_OUT.some((allowed) => allowed.test(title))) {
      titles.push(title);
    }
  });
  return titles;
}
