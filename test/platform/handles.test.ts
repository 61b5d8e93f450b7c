/*
 * Handles of the addon: each is taken only by what made it. Anything else would be read as memory of another
 * kind.
 */
import assert from 'node:assert';
import { loadAddon } from '../../src/platform/addon';

describe('a handle of the addon', () => {
  const native = loadAddon();
  const refused = { name: 'TypeError', code: 'EINVAL' };

  function sockets(): object {
    return native.openSockets(
      () => undefined,
      new Int32Array(64 * 16),
      new Uint8Array(65536),
      new Int32Array(64 * 16),
      new Uint8Array(65536),
      new Uint32Array(64),
    );
  }

  /** Calls with arguments that the types would not let pass. */
  function call(name: 'listen' | 'close' | 'unwatchLoop', ...args: readonly unknown[]): void {
    const method: unknown = Reflect.get(native, name);
    assert(typeof method === 'function');
    Reflect.apply(method, native, args);
  }

  it('of a watch of the loop is refused where sockets are wanted', () => {
    const watch = native.watchLoop(new Float64Array(130));
    try {
      assert.throws(() => native.listen(watch, '/nowhere', 1), refused);
    } finally {
      native.unwatchLoop(watch);
    }
  });

  it('of sockets is refused where a watch of the loop is wanted', () => {
    assert.throws(() => native.unwatchLoop(sockets()), refused);
  });

  for (const [what, value] of [
    ['an object', {}],
    ['a proxy', new Proxy({}, {})],
    ['a null', null],
    ['a number', 7],
  ] as const) {
    it(`is not ${what}`, () => {
      assert.throws(() => call('unwatchLoop', value), refused);
      assert.throws(() => call('listen', value, '/nowhere', 1), refused);
      assert.throws(() => call('close', value), refused);
    });
  }
});
