/*
 * The protocol's page is true: its worked examples are run, and the tests that it names exist.
 */
import assert from 'node:assert';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJsonObject } from '../../src/metadata/vm-data';
import { parseLine } from '../../src/protocol/request';
import { replyOf } from '../support/reply-of';
import { VERB_OPTIONS } from '../support/verb-options';
import { EMPTY_VM, memoryVm } from '../support/vm-data';

const TOP = join(__dirname, '..', '..', '..');
const PAGE = readFileSync(join(TOP, 'src/protocol/README.md'), 'utf8');
const VM = {
  ...EMPTY_VM,
  vm: { alias: 'web0' },
  customer: { motd: '.hi\n', 'a\nb': '1' },
  internal: { root_pw: 'x', 'operator-script': '#!/bin/sh' },
};
/** Cells of the table below a title, without their backquotes. */
function rows(title: string): string[][] {
  const section = PAGE.split(`\n## ${title}\n`)[1]?.split('\n## ')[0] ?? '';
  const lines = section.split('\n').filter((line) => line.startsWith('| '));
  return lines.slice(2).map((line) => line.split('|').slice(1, -1).map(cell));
}

function cell(text: string): string {
  return text.trim().replace(/^`([^`]*)`$/, '$1');
}

/** The bytes that a cell stands for. */
function bytesOf(text: string): Buffer {
  const plain = text.replace(/\\(n|r|x[0-9a-f]{2})/g, (_all, code: string) => {
    return code === 'n'
      ? '\n'
      : code === 'r'
        ? '\r'
        : String.fromCharCode(parseInt(code.slice(1), 16));
  });
  return Buffer.from(plain, 'latin1');
}

function replyTo(line: Buffer): Promise<string> {
  return replyOf(memoryVm(VM), parseLine(line, 'socket'));
}

describe("the protocol's page", () => {
  it('shows requests and the replies they get, byte by byte', async () => {
    const examples = rows('Worked examples');
    assert(examples.length > 20, `${examples.length} examples`);
    for (const [request = '', reply = ''] of examples) {
      const line = bytesOf(request);
      assert.strictEqual(line.at(-1), 0x0a, request);
      const expected = bytesOf(reply).toString('latin1');
      assert.strictEqual(await replyTo(line.subarray(0, -1)), expected, request);
    }
  });

  it('shows what HELLO is answered with', () => {
    const [, shown = ''] = /```json\n(\{\n {2}"agent"[^`]*)```/.exec(PAGE) ?? [];
    const { version, ...members } = { ...parseJsonObject(VERB_OPTIONS.hello) };
    assert(typeof version === 'string');
    assert.deepStrictEqual({ ...parseJsonObject(shown), version }, { ...members, version });
    const ids = rows("Differences from the platform's agent").map(([id]) => id);
    assert.deepStrictEqual(members.differences, ids);
  });

  it('reads CR, U+2028 and U+2029 inside a V1 line as part of the key', async () => {
    for (const separator of ['\r', '\u2028', '\u2029']) {
      const line = Buffer.from(`GET motd${separator}x`);
      assert.strictEqual(await replyTo(line), 'NOTFOUND\n', JSON.stringify(separator));
    }
  });

  it('names a test that exists for each difference from the platform, and each once', () => {
    const differences = rows("Differences from the platform's agent");
    const ids = differences.map(([id]) => id);
    assert.deepStrictEqual(
      ids,
      ids.map((_, index) => `P${index + 1}`),
    );
    for (const [id, , , , test = ''] of differences) {
      assert(existsSync(join(TOP, test)), `${id}: ${test}`);
    }
  });

  it('lists the refusals that a line or a key can meet', async () => {
    const texts = rows('Refusals')
      .map(([text = '']) => text)
      .join('\n');
    const verbs = ['GET', 'PUT', 'DELETE', 'WATCH', 'PUTIF', 'DELETEIF'];
    const sent = verbs.map((verb) => `Invalid ${verb} Request`);
    const others = ['Key is not UTF-8.', 'Key is too long.', 'Value is not UTF-8.'];
    others.push('Too many keys.', 'Too large', 'Changed TOKEN');
    for (const text of [...sent, ...others, 'Empty values are not stored.', 'VM not found']) {
      assert(texts.includes(text), text);
    }
    assert.strictEqual(await replyTo(Buffer.from('V2 x')), '');
  });
});
