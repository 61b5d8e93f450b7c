import assert from 'node:assert';
import { constants } from 'node:os';
import { ConfigError } from '../../src/config';
import { codeOf, errnoName, explain, SystemError, systemError } from '../../src/lib/errors';

/** As node:fs throws an errno that libuv has no name for. */
function nameless(errno: number): Error {
  const text = `Unknown system error ${-errno}`;
  return Object.assign(new Error(`${text}: ${text}, write`), { code: text, errno: -errno });
}

describe('the code of an error', () => {
  it('is the errno\u2019s name, also where node:fs has none: a quota, a lock', () => {
    const { EDQUOT, ENOLCK, ESTALE } = constants.errno;
    assert.strictEqual(codeOf(nameless(EDQUOT)), 'EDQUOT');
    assert.strictEqual(codeOf(nameless(ENOLCK)), 'ENOLCK');
    assert.strictEqual(systemError('write', '/f', nameless(ESTALE)).code, 'ESTALE');
    assert.strictEqual(codeOf(nameless(4000)), 'ERRNO_4000');
  });

  it('is unchanged when there is one', () => {
    assert.strictEqual(
      codeOf(Object.assign(new Error(), { code: 'ENOSPC', errno: -28 })),
      'ENOSPC',
    );
    assert.strictEqual(codeOf(new SystemError('get', 'url', 'HTTP_503')), 'HTTP_503');
    for (const none of [new Error('x'), null, undefined, 'ENOENT', { code: 7 }]) {
      assert.strictEqual(codeOf(none), 'UNKNOWN');
    }
  });

  it('is the usual name where an errno has two', () => {
    assert.strictEqual(errnoName(constants.errno.EAGAIN), 'EAGAIN');
    assert.strictEqual(errnoName(constants.errno.ENOMEM), 'ENOMEM');
    assert.deepStrictEqual([errnoName(0), errnoName(-5)], ['UNKNOWN', 'UNKNOWN']);
  });
});

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
