import assert from 'node:assert';
import { checkStamp, stampOf } from '../../src/datasets/platform';

describe('platform stamps', () => {
  it('are read from uname -v and from platform_buildstamp', () => {
    assert.strictEqual(stampOf('joyent_20260310T001234Z'), '20260310T001234Z');
    assert.strictEqual(stampOf('joyent_20260310T001234Z\n'), '20260310T001234Z');
    assert.strictEqual(stampOf('20260310T001234Z'), '20260310T001234Z');
  });

  it('are not read from anything else', () => {
    for (const text of ['', 'omnios-r151048', '#1 SMP', 'joyent_2026', 'x20260310T001234Z']) {
      assert.strictEqual(stampOf(text), undefined, text);
      assert.deepStrictEqual(checkStamp(text), { kind: 'unreadable' });
    }
    assert.deepStrictEqual(checkStamp(20260310), { kind: 'unreadable' });
  });

  it('host a safe dataset from 20150418T000000Z on', () => {
    assert.deepStrictEqual(checkStamp('20150418T000000Z'), { kind: 'hosts' });
    assert.deepStrictEqual(checkStamp('joyent_20150418T000001Z'), { kind: 'hosts' });
    assert.deepStrictEqual(checkStamp('joyent_20150417T235959Z'), {
      kind: 'too-old',
      stamp: '20150417T235959Z',
    });
  });
});
