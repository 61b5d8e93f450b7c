/*
 * Handles of the addon: each is taken only by what made it. Anything else would be read as memory of another
 * kind.
 */
import assert from 'node:assert';
import { loadAddon } from '../../src/platform/addon';
import { makeNode } from '../support/emulated-node';

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
  function call(name: 'listen' | 'close', ...args: readonly unknown[]): void {
    const method: unknown = Reflect.get(native, name);
    assert(typeof method === 'function');
    Reflect.apply(method, native, args);
  }

  it('of zone events is refused where sockets are wanted', () => {
    const node = makeNode();
    const nothing = (): void => undefined;
    const events = native.bind(nothing, 1, nothing);
    try {
      assert.throws(() => native.listen(events, '/nowhere', 1), refused);
    } finally {
      void native.close(events).then(() => node.remove());
    }
  });

  it('of sockets is refused where zone events are wanted', () => {
    assert.throws(() => call('close', sockets()), refused);
  });

  for (const [what, value] of [
    ['an object', {}],
    ['a proxy', new Proxy({}, {})],
    ['a null', null],
    ['a number', 7],
  ] as const) {
    it(`is not ${what}`, () => {
      assert.throws(() => call('listen', value, '/nowhere', 1), refused);
      assert.throws(() => call('close', value), refused);
    });
  }
});
