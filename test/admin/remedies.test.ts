/*
 * What the doctor and the reports tell an operator to do: every service that they name is one of a node.
 */
import assert from 'node:assert';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ADMIN = resolve(__dirname, '../../../src/admin');
const SERVICES = ['mdatad', 'vminfod', 'svc:/system/smartdc/metadata:default'];

describe('a remedy', () => {
  it('names only services that a node has', () => {
    const named = readdirSync(ADMIN).flatMap((file) => {
      const text = readFileSync(join(ADMIN, file), 'utf8');
      return [
        ...text.matchAll(/\b(?:svcadm (?:restart|disable|enable|clear)|svcs -\w+) ([\w:/.-]*\w)/g),
      ];
    });
    assert(named.length > 5);
    for (const [words, service = ''] of named) {
      assert(SERVICES.includes(service) || service === 'if', words);
    }
  });
});
