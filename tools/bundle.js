/*
 * Makes the daemon one file, dist/src/bundle/mdatad.js: to look for 250 files and read them is a third of what the
 * start of the daemon costs. Run by tools/compile.js after the compiler, which has checked the types. Made from
 * the TypeScript, whose imports leave no function around each module, so that V8 parses all of it once.
 *
 * Nothing is minified, so that a stack trace names functions and the lines of a file that can be read. The
 * other programs and most tests load the single files: the same code.
 */
'use strict';
const { mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const { dirname, join, relative } = require('node:path');

const TOP = join(__dirname, '..');
/** As deep as dist/src/platform, from where our own files find the native code and package.json. */
const BUNDLE_DIRECTORY = join(TOP, 'dist', 'src', 'bundle');
const BUNDLE = join(BUNDLE_DIRECTORY, 'mdatad.js');
/**
 * Optional packages of bunyan's: rotation of files, times of the local zone, DTrace. A package for a node does not
 * have them, and bunyan does without.
 */
const LEFT_OUT = /^(mv|moment|dtrace-provider|safe-json-stringify|source-map-support)$/;

/** What src/platform/ffi.ts takes of ffi-napi. */
const FFI_NAMES = ['errno', 'Library'];

/** bunyan expects that some of its packages are missing: `require` of them throws, as it does on a node. */
const leaveOut = {
  name: 'leave out',
  setup(build) {
    build.onResolve({ filter: LEFT_OUT }, ({ path }) => ({ path, namespace: 'left-out' }));
    build.onLoad({ filter: /./, namespace: 'left-out' }, ({ path }) => ({
      contents: `throw Object.assign(new Error('${path} is left out'), { code: 'MODULE_NOT_FOUND' });`,
    }));
  },
};

/** ffi-napi's trace of its own calls: it would ask for a terminal and its colors at each start. */
const noTrace = {
  name: 'no trace',
  setup(build) {
    build.onResolve({ filter: /^debug$/ }, () => ({ path: 'debug', namespace: 'no-trace' }));
    build.onLoad({ filter: /./, namespace: 'no-trace' }, () => ({
      contents: 'module.exports = () => () => undefined;',
    }));
  },
};

/**
 * Loaded by who first uses them, each some ms of a start: the first guest needs neither HTTP, nor a token, nor a call by
 * ffi, nor a child process, which commander loads for programs that mdatad does not have.
 */
const loadLater = {
  name: 'load later',
  setup(build) {
    build.onResolve({ filter: /^(ffi-napi|node:(child_process|crypto|http))$/ }, (asked) => {
      const { path, namespace } = asked;
      if (namespace !== 'later') {
        return { path, namespace: 'later' };
      }
      return path.startsWith('node:') ? { path, external: true } : undefined;
    });
    build.onLoad({ filter: /./, namespace: 'later' }, ({ path }) => {
      // ffi-napi's native part may not be built yet.
      const names = path === 'ffi-napi' ? FFI_NAMES : Object.keys(require(path));
      const getters = names.map((name) => `get ${name}() { return load().${name}; }`);
      return {
        resolveDir: TOP,
        contents: `let it; const load = () => (it ??= require('${path}')); module.exports = { ${getters.join(', ')} };`,
      };
    });
  },
};

/** Native packages look for their binaries beside their own code, which stays where it was installed. */
const keepDirectories = {
  name: 'keep directories',
  setup(build) {
    build.onLoad(
      { filter: /\/node_modules\/(ffi-napi|@2060\.io\/ref-napi)\/lib\/.*\.js$/ },
      (file) => {
        const directory = JSON.stringify(relative(BUNDLE_DIRECTORY, dirname(file.path)));
        const code = readFileSync(file.path, 'utf8');
        return {
          contents: code.replaceAll(
            /\b__dirname\b/g,
            `require('path').join(__dirname, ${directory})`,
          ),
        };
      },
    );
  },
};

/** Where esbuild does not run the daemon is the single files: a slower start, and nothing else. */
async function bundle(build = runEsbuild) {
  try {
    await build();
  } catch (err) {
    if (err.errors !== undefined) {
      throw err; // A fault in what is bundled.
    }
    const [why] = err.message.split('\n');
    process.stderr.write(
      `bundle: esbuild does not run here (${why}): the daemon is left as single files, and starts slower\n`,
    );
    mkdirSync(BUNDLE_DIRECTORY, { recursive: true });
    writeFileSync(BUNDLE, "#!/usr/bin/env node\n'use strict';\nrequire('../main.js');\n");
  }
}

function runEsbuild() {
  // Here, as a machine that only compiles need not have it.
  const { build } = require('esbuild');
  return build({
    entryPoints: [join(TOP, 'src', 'main.ts')],
    outfile: BUNDLE,
    absWorkingDir: TOP,
    bundle: true,
    platform: 'node',
    target: 'node20.15',
    legalComments: 'inline',
    logLevel: 'warning',
    plugins: [leaveOut, noTrace, loadLater, keepDirectories],
  });
}

module.exports = { bundle };
