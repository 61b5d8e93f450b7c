import assert from 'node:assert';
import { ConfigError } from '../../src/config';
import { SystemError, systemError } from '../../src/lib/errors';
import { explain } from '../../src/lib/explain';

describe('an error as a program prints it', () => {
  const failed = (code: string, syscall: string, path: string, message: string): Error =>
    Object.assign(new Error(message), { code, syscall, path });

  it('has the code and the file once, whoever made it', () => {
    const raw = failed('EACCES', 'open', '/etc/x', "EACCES: permission denied, open '/etc/x'");
    const expected = 'p: open /etc/x: permission denied (EACCES)\n';
    assert(explain('p', raw).startsWith(expected));
    assert(explain('p', systemError('open', '/etc/x', raw)).startsWith(expected));
    const connect = failed('ENOENT', 'connect', '/run/s', 'connect ENOENT /run/s');
    const wrapped = systemError('connect', '/run/s', connect);
    assert.strictEqual(wrapped.message, 'connect(/run/s): ENOENT: no such file or directory');
    assert.match(
      explain('p', wrapped),
      /^p: connect \/run\/s: no such file or directory \(ENOENT\)\n/,
    );
  });

  it('keeps the detail beyond the code', () => {
    const err = new SystemError('lock', '/run/l', 'EBUSY', 'another mdatad serves this node');
    assert.strictEqual(
      explain('p', err),
      'p: lock /run/l: another mdatad serves this node (EBUSY)\n  see who has it: fuser /run/l\n',
    );
  });

  it('has no remedy where the subject is not a path', () => {
    const err = new SystemError('zone_get_state', 'web0', 'ENOENT');
    assert.strictEqual(
      explain('p', err),
      'p: zone_get_state web0: no such file or directory (ENOENT)\n',
    );
  });

  it('has its own remedy, that of its code or cause, or none', () => {
    assert.strictEqual(explain('p', new ConfigError('bad', 'mend it')), 'p: bad\n  mend it\n');
    const cause = failed('ENOSPC', 'write', '/var/x', 'ENOSPC: no space left on device, write');
    const outer = new Error('cannot save', { cause });
    assert.strictEqual(explain('p', outer), `p: cannot save\n  make room: df -h /var\n`);
    assert.strictEqual(explain('p', new Error('odd')), 'p: odd\n');
    assert.strictEqual(explain('p', 'odd'), 'p: odd\n');
  });
});
