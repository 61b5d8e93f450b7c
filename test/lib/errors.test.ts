import assert from 'node:assert';
import { constants } from 'node:os';
import { codeOf, errnoName, SystemError, systemError } from '../../src/lib/errors';

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
