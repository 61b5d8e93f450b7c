/* Marks the built commands executable: tsc does not, and `npm link` and a tarball want it. */
'use strict';
const { chmodSync, existsSync } = require('node:fs');
const { join } = require('node:path');
const { bin } = require('../package.json');

for (const file of Object.values(bin)) {
  const path = join(__dirname, '..', file);
  if (existsSync(path)) {
    chmodSync(path, 0o755);
  }
}
